import { describe, expect, test } from 'vitest';
import { type Environment, loadSettings, type Needs } from '../../src/config/load.ts';
import { SETTINGS, type Setting } from '../../src/config/settings.ts';
import { NONE, problemsOf } from './config-problems.ts';

const ALL: Needs = { database: true, upstream: true };
const GOOD = { DATABASE_URL: 'postgres://host/database', WHATSAPP_USE_API_KEY: 'pa_live_1' };

/** The contract's defaults; null: none. */
const DEFAULTS: Readonly<Record<string, string | null>> = {
  DATABASE_URL: null,
  LISTEN_DATABASE_URL: null,
  WHATSAPP_USE_API_KEY: null,
  WHATSAPP_USE_BASE_URL: 'https://api.whatsapp-use.com',
  WHATSAPP_USE_ALLOW_HTTP: 'false',
  WHATSAPP_USE_CONNECTION_IDS: 'auto',
  DISCOVERY_INTERVAL: '5m',
  WA_REPLICA_SCHEMA: 'whatsapp',
  POLL_INTERVAL: '15s',
  POLL_INTERVAL_IDLE: '60s',
  PAGE_LIMIT: '500',
  PAGE_LIMIT_MAX: '2000',
  REQUEST_TIMEOUT: '30s',
  REQUEST_RATE: '100',
  MAX_RESPONSE_BYTES: '64MiB',
  MAX_CONCURRENCY: '8',
  BACKOFF_MIN: '1s',
  BACKOFF_MAX: '5m',
  LEASE_TTL: '30s',
  DB_POOL_SIZE: '8',
  MIGRATE_ON_START: 'true',
  HTTP_HOST: '127.0.0.1',
  HTTP_PORT: '8080',
  HTTP_AUTH_TOKEN: null,
  READY_MAX_LAG: '5m',
  // Not in the contract's table: the issue that wants per-connection series to be switched off names no setting.
  METRICS_PER_CONNECTION: 'on',
  WEBHOOK_SECRET: null,
  SHUTDOWN_TIMEOUT: '20s',
  RETENTION_WINDOW: '30d',
  RESET_CONFIRM: '1m',
  VERIFY_CRON: '17 3 * * *',
  VERIFY_RATE: '2',
  VERIFY_REPAIR: 'false',
  LEDGER_DETAIL: '90d',
  HISTORY: 'on',
  CHANGES: 'on',
  SEARCH: 'on',
  CHANGES_RETENTION: '30d',
  DELETED_MESSAGES: 'keep',
  RETAIN_MESSAGES: null,
  MEDIA_STORE: 'off',
  // Not in the contract's table, which leaves what MEDIA_STORE needs to its issue.
  MEDIA_CONCURRENCY: '4',
  MEDIA_MAX_BYTES: '2GiB',
  MEDIA_TIMEOUT: '15m',
  MEDIA_S3_ENDPOINT: null,
  MEDIA_S3_REGION: null,
  ERASURE_KEY: null,
  CRM_CONTACTS_QUERY: null,
  CRM_DATABASE_URL: null,
  CRM_DEFAULT_COUNTRY: null,
  CRM_LINK_CRON: null,
  ALERT_WEBHOOK_URL: null,
  ALERT_WEBHOOK_SECRET: null,
  LOG_LEVEL: 'info',
  // `pretty` on a terminal, else `json`.
  LOG_FORMAT: null,
};

describe('defaults', () => {
  test.each(Object.entries<Setting>(SETTINGS))('%s has the contract’s', (name, setting) => {
    expect(DEFAULTS).toHaveProperty(name);
    expect(setting.default ?? null).toBe(DEFAULTS[name]);
  });

  test('are good themselves, and give whole settings', () => {
    const { settings, warnings } = loadSettings({}, NONE);
    expect(warnings).toEqual([]);
    expect(settings).toMatchObject({
      WA_REPLICA_SCHEMA: 'whatsapp',
      POLL_INTERVAL: 15_000,
      MAX_RESPONSE_BYTES: 64 * 1024 ** 2,
      HISTORY: true,
      MIGRATE_ON_START: true,
      WHATSAPP_USE_CONNECTION_IDS: ['auto'],
    });
    expect(String(settings.WHATSAPP_USE_BASE_URL)).toBe('https://api.whatsapp-use.com/');
    expect(Object.isFrozen(settings)).toBe(true);
  });

  test('count where a variable is empty, as compose files leave it', () => {
    const { settings } = loadSettings({ ...GOOD, POLL_INTERVAL: '', PAGE_LIMIT: ' ' }, ALL);
    expect([settings.POLL_INTERVAL, settings.PAGE_LIMIT]).toEqual([15_000, 500]);
  });
});

describe('problems', () => {
  test('are told all at once, each with its variable', () => {
    const env = {
      DATABASE_URL: 'mysql://host',
      WHATSAPP_USE_API_KEY: '',
      WHATSAPP_USE_BASE_URL: 'http://example.com',
      WA_REPLICA_SCHEMA: 'Bad Name',
      POLL_INTERVAL: '15',
      PAGE_LIMIT: '0',
      MAX_RESPONSE_BYTES: '1GB',
      BACKOFF_MIN: '10m',
      LEASE_TTL: '10ms',
      HISTORY: 'yes',
      LOG_LEVEL: 'loud',
      WA_REPLICA_UNKNOWN: '1',
    };
    const problems = problemsOf(env, ALL);
    const named = problems.map((problem) => /^[A-Z_]+/.exec(problem)?.[0]);
    expect([...named].sort()).toEqual(Object.keys(env).sort());
  });

  test.each([
    ['POLL_INTERVAL', '15', 'duration'],
    ['LEASE_TTL', '999ms', 'at least 1s'],
    ['LEDGER_DETAIL', '23h', 'at least 1d'],
    ['LEASE_TTL', '40d', 'at most 1d'],
    // Beyond 2^31-1 ms a timer of Node's fires at once.
    ['REQUEST_TIMEOUT', '30d', 'at most 1d'],
    ['PAGE_LIMIT', '1.5', 'whole number from 1'],
    ['MAX_CONCURRENCY', '0', 'whole number from 1'],
    ['MAX_RESPONSE_BYTES', '64MB', 'size'],
    ['HISTORY', 'true', 'one of on, off'],
    ['MIGRATE_ON_START', 'on', 'one of true, false'],
    ['DELETED_MESSAGES', 'drop', 'one of keep, redact'],
    ['LOG_FORMAT', 'xml', 'one of json, pretty'],
    ['WA_REPLICA_SCHEMA', 'pg_toast', 'Postgres'],
    ['WHATSAPP_USE_CONNECTION_IDS', ',', 'is empty'],
    ['POLL_INTERVAL', '99ms', 'at least 100ms'],
    ['BACKOFF_MIN', '0s', 'at least 1ms'],
    ['DB_POOL_SIZE', '0', 'whole number from 1'],
    ['RETENTION_WINDOW', '999ms', 'at least 1s'],
    ['VERIFY_CRON', 'daily', 'minute, hour, .*, or off'],
    ['VERIFY_RATE', '0', 'whole number from 1'],
    ['CHANGES_RETENTION', '999ms', 'at least 1s'],
    ['RETAIN_MESSAGES', '23h', 'at least 1d'],
    ['ERASURE_KEY', 'x'.repeat(31), 'at least 32 characters'],
    ['ERASURE_KEY', `${'x'.repeat(31)} `, 'at least 32 characters'],
    ['CRM_CONTACTS_QUERY', 'delete from contacts', 'a query'],
    ['CRM_DEFAULT_COUNTRY', 'Germany', 'two letters'],
    ['CRM_DEFAULT_COUNTRY', 'UK', 'such as DE, GB or US'],
    ['MEDIA_STORE', 's3://bucket:9000/prefix', 's3://bucket/prefix'],
    ['MEDIA_STORE', 's3://bucket/prefix#x', 's3://bucket/prefix'],
    ['MEDIA_MAX_BYTES', '6GiB', 'size'],
    ['MEDIA_TIMEOUT', '999ms', 'at least 1s'],
    ['ALERT_WEBHOOK_URL', 'ftp://alerts.example.com', 'a URL'],
    ['ALERT_WEBHOOK_URL', 'https://:secret@alerts.example.com', 'without user'],
  ])('%s=%s says what is wanted', (name, text, wanted) => {
    const problems = problemsOf({ [name]: text });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${name} .*${wanted}`));
  });

  test('a semicolon at the end of a query is none', () => {
    const { settings } = loadSettings({ CRM_CONTACTS_QUERY: ' select id, phone from contacts ;\n' }, NONE);
    expect(settings.CRM_CONTACTS_QUERY).toBe('select id, phone from contacts');
  });

  test('of two settings together are told', () => {
    expect(problemsOf({ BACKOFF_MIN: '2s', BACKOFF_MAX: '1s' })).toEqual([
      expect.stringContaining('BACKOFF_MAX'),
    ]);
    expect(problemsOf({ BACKOFF_MIN: '1s', BACKOFF_MAX: '1s' })).toEqual([]);
    expect(problemsOf({ RETAIN_MESSAGES: '30d', ERASURE_KEY: 'x'.repeat(32) })).toEqual([]);
    const secret = { ALERT_WEBHOOK_SECRET: 'whsec_1' };
    expect(problemsOf(secret)).toEqual([
      expect.stringMatching(/^ALERT_WEBHOOK_SECRET is set without ALERT_WEBHOOK_URL/),
    ]);
    expect(problemsOf({ ...secret, ALERT_WEBHOOK_URL: 'https://alerts.example.com/hook' })).toEqual([]);
  });
});

describe('what has to be there', () => {
  test('is asked for only where it is needed', () => {
    expect(problemsOf({}, NONE)).toEqual([]);
    expect(problemsOf({}, { database: true, upstream: false })).toEqual([
      expect.stringMatching(/^DATABASE_URL /),
    ]);
    expect(problemsOf({}, { database: false, upstream: true })).toEqual([
      expect.stringMatching(/^WHATSAPP_USE_API_KEY /),
    ]);
    expect(problemsOf({}, ALL)).toHaveLength(2);
    expect(problemsOf(GOOD, ALL)).toEqual([]);
    // A secret that is named as a file is there, too.
    const files = Object.fromEntries(Object.keys(GOOD).map((name) => [`${name}_FILE`, '/none']));
    expect(problemsOf(files, ALL)).toEqual(Object.keys(files).map((name) => expect.stringContaining(name)));
  });

  test.each(['PGHOST', 'PGDATABASE', 'PGUSER', 'PGPORT'])('%s says that a database is meant', (name) => {
    const { settings } = loadSettings({ [name]: '5432' }, { database: true, upstream: false });
    expect(settings.DATABASE_URL).toBeUndefined();
  });

  test.each([
    [{ PGPORT: 'abc' }, 'PGPORT wants a whole number from 1 to 65535'],
    [{ PGPORT: '0' }, 'PGPORT wants a whole number from 1 to 65535'],
    [{ PGPORT: '65536' }, 'PGPORT wants a whole number from 1 to 65535'],
    // pg would do without TLS, and say nothing.
    [
      { PGSSLMODE: 'verify_full' },
      'PGSSLMODE wants one of disable, prefer, require, verify-ca, verify-full, no-verify',
    ],
  ])('%j is refused where a database is wanted', (env, problem) => {
    expect(problemsOf({ PGHOST: 'h', ...env }, { database: true, upstream: false })).toEqual([problem]);
    expect(problemsOf({ PGHOST: 'h', ...env })).toEqual([]);
  });

  test.each([
    [{ PGPORT: 'abc', PGSSLMODE: 'allow', DATABASE_URL: 'postgres://h:1/d?sslmode=require' }, []],
    [{ PGPORT: 'abc', PGSSLMODE: 'allow', DATABASE_URL: 'postgres://h/d?port=1&sslmode=disable' }, []],
    [{ PGPORT: 'abc', DATABASE_URL: 'postgres://h/d' }, ['PGPORT']],
    [{ PGSSLMODE: 'allow', DATABASE_URL: 'postgres://h:1/d' }, ['PGSSLMODE']],
    [{ PGPORT: 'abc', DATABASE_URL: 'postgres://h:1/d', LISTEN_DATABASE_URL: 'off' }, []],
    [{ PGPORT: 'abc', DATABASE_URL: 'postgres://h:1/d', LISTEN_DATABASE_URL: 'postgres://h/d' }, ['PGPORT']],
    [
      {
        ...{ PGPORT: 'abc', DATABASE_URL: 'postgres://h:1/d' },
        ...{ CRM_DATABASE_URL: 'postgres://h/d', CRM_CONTACTS_QUERY: 'select 1' },
      },
      ['PGPORT'],
    ],
  ])('%j: what no URL leaves open is not looked at', (env, names) => {
    const problems = problemsOf(env, { database: true, upstream: false });
    expect(problems).toEqual(names.map((name) => expect.stringMatching(`^${name} `)));
  });

  test('an empty one is none', () =>
    expect(
      problemsOf({ PGHOST: 'h', PGPORT: '', PGSSLMODE: '' }, { database: true, upstream: false }),
    ).toEqual([]));

  test.each([{ PGHOST: '' }, { PGPASSWORD: 'x' }, { PGSSLMODE: 'require' }])('%j does not', (env) =>
    expect(problemsOf(env, { database: true, upstream: false })).toHaveLength(1),
  );
});

describe('plain http', () => {
  test.each(['http://localhost:8600', 'http://127.0.0.1', 'http://[::1]:8600', 'https://example.com'])(
    'is no matter to %s',
    (url) => expect(problemsOf({ WHATSAPP_USE_BASE_URL: url })).toEqual([]),
  );

  test.each([
    'http://example.com',
    'http://10.0.0.1',
    'http://simulator:8600',
    'http://0.0.0.0',
    'HTTP://EXAMPLE.COM',
  ])('is an error to %s, unless it is allowed', (url) => {
    expect(problemsOf({ WHATSAPP_USE_BASE_URL: url })).toEqual([
      expect.stringMatching(/^WHATSAPP_USE_BASE_URL .*WHATSAPP_USE_ALLOW_HTTP=true/),
    ]);
    expect(problemsOf({ WHATSAPP_USE_BASE_URL: url, WHATSAPP_USE_ALLOW_HTTP: 'false' })).toHaveLength(1);
    expect(problemsOf({ WHATSAPP_USE_BASE_URL: url, WHATSAPP_USE_ALLOW_HTTP: 'true' })).toEqual([]);
  });
});

test.each<[Environment, problem: string]>([
  [{ PAGE_LIMIT: '501', PAGE_LIMIT_MAX: '500' }, 'PAGE_LIMIT is above PAGE_LIMIT_MAX'],
  [{ CRM_DATABASE_URL: 'postgres://crm/x' }, 'CRM_DATABASE_URL is set without CRM_CONTACTS_QUERY'],
  [{ CRM_LINK_CRON: 'off' }, 'CRM_LINK_CRON is set without CRM_CONTACTS_QUERY'],
])('%j is wrong only together', (env, problem) => {
  expect(problemsOf(env)).toEqual([expect.stringContaining(problem)]);
  expect(problemsOf({ ...env, PAGE_LIMIT: '500', CRM_CONTACTS_QUERY: 'select 1, 2' })).toEqual([]);
});
