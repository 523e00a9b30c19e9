import { postgresUrl } from './postgres-url.ts';
import * as v from './values.ts';

export interface Setting<T = unknown> {
  readonly value: v.Form<T>;
  /** The text that counts where the variable is not set; undefined: the setting is not set then. */
  readonly default?: string | undefined;
  /** Never echoed, and may be given as the path of a file in `NAME_FILE`. */
  readonly secret?: true;
  /** What `--help` says of it. */
  readonly help: string;
}

function setting<T, D extends string | undefined = undefined>(
  value: v.Form<T>,
  about: { default?: D; secret?: true; help: string },
): Setting<T> & { default: D } {
  return { value, ...about } as Setting<T> & { default: D };
}

/** Every setting there is: environment variables, in the order in which the documentation lists them. */
export const SETTINGS = {
  DATABASE_URL: setting(postgresUrl(), {
    secret: true,
    help: "where to write: a Postgres URL, its passfile too; libpq's PG* variables and its password file work as well. TLS is verified as its sslmode says",
  }),
  LISTEN_DATABASE_URL: setting(v.offOr(postgresUrl()), {
    secret: true,
    help: 'one dedicated connection for LISTEN, past a pooler in transaction mode; off for none; as DATABASE_URL where not set',
  }),
  WHATSAPP_USE_API_KEY: setting(v.headerList(), {
    secret: true,
    help: 'the API key (scope whatsapp:read), or several, comma-separated',
  }),
  WHATSAPP_USE_BASE_URL: setting(v.httpUrl(), {
    default: 'https://api.whatsapp-use.com',
    help: 'where the API is; plain http only on this machine itself',
  }),
  WHATSAPP_USE_ALLOW_HTTP: setting(v.flag('true', 'false'), {
    default: 'false',
    help: 'allows plain http to another host, such as in a compose network',
  }),
  WHATSAPP_USE_CONNECTION_IDS: setting(v.autoOrIds(), {
    default: 'auto',
    help: 'connection ids, comma-separated, or auto: those that the key lists',
  }),
  DISCOVERY_INTERVAL: setting(v.duration(100), {
    default: '5m',
    help: 'how often the keys are asked what they list',
  }),
  WA_REPLICA_SCHEMA: setting(v.schemaName(), { default: 'whatsapp', help: 'the schema of the tables' }),
  POLL_INTERVAL: setting(v.duration(100), {
    default: '15s',
    help: 'pause after a poll that ended with nothing more to fetch, ±10 %',
  }),
  POLL_INTERVAL_IDLE: setting(v.duration(100), {
    default: '60s',
    help: 'the pause doubles towards this after each 4 empty polls; one change brings it back',
  }),
  PAGE_LIMIT: setting(v.integer(1, 100_000), {
    default: '500',
    help: 'records asked for in a page, at first',
  }),
  PAGE_LIMIT_MAX: setting(v.integer(1, 100_000), { default: '2000', help: 'how far that may grow' }),
  REQUEST_TIMEOUT: setting(v.duration(100, v.DAY), {
    default: '30s',
    help: 'for a whole request, body included',
  }),
  REQUEST_RATE: setting(v.integer(1, 100_000), {
    default: '100',
    help: 'requests a second per key, at most',
  }),
  MAX_RESPONSE_BYTES: setting(v.bytes(1024), {
    default: '64MiB',
    help: 'a larger answer is asked for again with half the limit',
  }),
  MAX_CONCURRENCY: setting(v.integer(1, 1000), { default: '8', help: 'requests in flight per process' }),
  BACKOFF_MIN: setting(v.duration(1), { default: '1s', help: 'the first delay after a failure, at most' }),
  BACKOFF_MAX: setting(v.duration(1), { default: '5m', help: 'the longest delay after failures' }),
  LEASE_TTL: setting(v.duration(1000, v.DAY), {
    default: '30s',
    help: 'how long a dead worker keeps its connections',
  }),
  DB_POOL_SIZE: setting(v.integer(1, 1000), { default: '8', help: 'connections to Postgres for page work' }),
  MIGRATE_ON_START: setting(v.flag('true', 'false'), { default: 'true', help: 'run migrates first' }),
  HTTP_HOST: setting(v.text(), { default: '127.0.0.1', help: 'the address that the HTTP server listens on' }),
  HTTP_PORT: setting(v.offOr(v.integer(0, 65_535)), {
    default: '8080',
    help: 'its port; off for none',
  }),
  HTTP_AUTH_TOKEN: setting(v.text(), {
    secret: true,
    help: 'wanted by every route but /healthz, /readyz and the webhook; without it they answer on this machine only',
  }),
  READY_MAX_LAG: setting(v.duration(1000), {
    default: '5m',
    help: 'how old the last poll of a connection may be for /readyz',
  }),
  METRICS_PER_CONNECTION: setting(v.flag('on', 'off'), {
    default: 'on',
    help: 'series per connection in /metrics; off for thousands of connections',
  }),
  WEBHOOK_SECRET: setting(v.list(), {
    secret: true,
    help: 'the secret of the webhook endpoint, or several, comma-separated, while one is rotated',
  }),
  SHUTDOWN_TIMEOUT: setting(v.duration(), {
    default: '20s',
    help: 'for finishing the pages in hand at the end',
  }),
  RETENTION_WINDOW: setting(v.duration(1000), {
    default: '30d',
    help: "the upstream's memory: what is not replicated within it is lost",
  }),
  RESET_CONFIRM: setting(v.duration(), {
    default: '1m',
    help: 'how long the upstream must answer with lower cursors before a new epoch begins',
  }),
  VERIFY_CRON: setting(v.offOr(v.cron()), {
    default: '17 3 * * *',
    help: 'when every connection is compared with what the upstream serves (cron, UTC); off for never',
  }),
  VERIFY_RATE: setting(v.integer(1, 1000), {
    default: '2',
    help: 'requests a second per key for that, at most; replication goes first',
  }),
  VERIFY_REPAIR: setting(v.flag('true', 'false'), {
    default: 'false',
    help: 'mends what differs, without being asked',
  }),
  LEDGER_DETAIL: setting(v.duration(v.DAY), {
    default: '90d',
    help: 'how long the ledger keeps single pages; older ones are folded by the day',
  }),
  HISTORY: setting(v.flag('on', 'off'), {
    default: 'on',
    help: 'keep replaced versions in message_revisions',
  }),
  CHANGES: setting(v.flag('on', 'off'), {
    default: 'on',
    help: 'the change feed: a row in changes for each record that is inserted, updated or deleted',
  }),
  CHANGES_RETENTION: setting(v.duration(1000), {
    default: '30d',
    help: 'how long the feed waits for a consumer, at most; what all have is pruned sooner',
  }),
  DELETED_MESSAGES: setting(v.choice('keep', 'redact'), {
    default: 'keep',
    help: 'what message_revisions holds of a message deleted for everyone: keep or redact',
  }),
  RETAIN_MESSAGES: setting(v.duration(v.DAY), {
    help: 'messages that were sent longer ago are deleted, and not stored again; for ever where not set',
  }),
  ERASURE_KEY: setting(v.key(32), {
    secret: true,
    help: 'for `erase`, and from then on for whatever writes: what was erased is recognized under it, so keep it',
  }),
  SEARCH: setting(v.choice('off', 'on', 'parts'), {
    default: 'on',
    help: 'the index that search and search_messages want: of words, of parts of words too (pg_trgm), or none; drops the others',
  }),
  CRM_CONTACTS_QUERY: setting(v.query(), {
    help: "the CRM's contacts, such as select id, phone from contacts: links them with people by number",
  }),
  CRM_DATABASE_URL: setting(postgresUrl(), {
    secret: true,
    help: 'where that query runs, reading only; in the database of DATABASE_URL where not set',
  }),
  CRM_DEFAULT_COUNTRY: setting(v.country(), {
    help: 'the country of numbers that are written without one, such as DE',
  }),
  CRM_LINK_CRON: setting(v.offOr(v.cron()), {
    help: 'when contacts are linked (cron, UTC); every hour where not set; off for by hand only',
  }),
  MEDIA_STORE: setting(v.offOr(v.mediaStore()), {
    default: 'off',
    help: 'where attachments are kept: file:///path or s3://bucket/prefix; off for nowhere',
  }),
  MEDIA_CONCURRENCY: setting(v.integer(1, 100), {
    default: '4',
    help: 'attachments that are fetched at a time, beside MAX_CONCURRENCY',
  }),
  MEDIA_MAX_BYTES: setting(v.bytes(1024, 5 * 1024 ** 3), {
    default: '2GiB',
    help: 'a larger attachment is not kept',
  }),
  MEDIA_TIMEOUT: setting(v.duration(1000, v.DAY), {
    default: '15m',
    help: 'for a whole attachment; REQUEST_TIMEOUT is for its beginning, and for a pause in it',
  }),
  MEDIA_S3_ENDPOINT: setting(v.httpUrl(), {
    help: "the server of s3://, addressed by path (MinIO); Amazon's where not set. Credentials: AWS_* variables",
  }),
  MEDIA_S3_REGION: setting(v.text(), { help: 'its region; AWS_REGION where not set' }),
  ALERT_WEBHOOK_URL: setting(v.webUrl(), {
    secret: true,
    help: 'where alerts are sent: a connection that falls behind, a gap',
  }),
  ALERT_WEBHOOK_SECRET: setting(v.text(), {
    secret: true,
    help: 'signs them, as the upstream signs its webhooks',
  }),
  LOG_LEVEL: setting(v.choice('debug', 'info', 'warn', 'error', 'silent'), {
    default: 'info',
    help: 'debug, info, warn, error or silent',
  }),
  LOG_FORMAT: setting(v.choice('json', 'pretty'), {
    help: 'json or pretty; pretty on a terminal, else json',
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;

type ValueOf<S> = S extends Setting<infer T> & { default: infer D }
  ? D extends string
    ? T
    : T | undefined
  : never;

/** The settings as the program uses them: durations in milliseconds, sizes in bytes. */
export type Settings = { readonly [N in SettingName]: ValueOf<(typeof SETTINGS)[N]> };
