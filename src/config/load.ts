import { readFileSync } from 'node:fs';
import { distance } from 'fastest-levenshtein';
import { libpqProblems } from './postgres-url.ts';
import { SETTINGS, type Setting, type SettingName, type Settings } from './settings.ts';
import { isLoopback, Refused } from './values.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Wrong configuration: every problem at once, each naming its variable and the remedy. Exit status 2. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

export interface Needs {
  /** DATABASE_URL or libpq's variables have to be there. */
  readonly database: boolean;
  /** WHATSAPP_USE_API_KEY has to be there. */
  readonly upstream: boolean;
}

export interface Loaded {
  readonly settings: Settings;
  /** Variables that are nearly a setting's name. */
  readonly warnings: readonly string[];
}

export interface Examined extends Loaded {
  /** Each begins with the name of the variable, and never has its value. The default stands for what is refused. */
  readonly problems: readonly string[];
}

/** libpq's variables of which any one says that a database is meant. */
const LIBPQ = ['PGHOST', 'PGDATABASE', 'PGUSER', 'PGPORT'];

/**
 * Reads the settings from an environment.
 * @throws ConfigError with every problem, never with a value.
 */
export function loadSettings(env: Environment, needs: Needs): Loaded {
  const { problems, ...loaded } = examineSettings(env, needs);
  // A slip in a name is often why something is missing.
  if (problems.length > 0) throw new ConfigError([...problems, ...loaded.warnings]);
  return loaded;
}

/** Reads the settings for whoever looks at what can be looked at, although some are wrong. */
export function examineSettings(env: Environment, needs: Needs): Examined {
  const problems: string[] = [];
  const settings: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(SETTINGS) as [SettingName, Setting][]) {
    const text = textOf(env, name, setting, problems);
    if (text === undefined) continue;
    try {
      settings[name] = setting.value(text);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problems.push(`${name} ${error.message}`);
    }
  }
  const loaded = settings as unknown as Settings;
  if (needs.database && env.DATABASE_URL === undefined && env.DATABASE_URL_FILE === undefined) {
    if (!LIBPQ.some((name) => env[name])) {
      problems.push(
        "DATABASE_URL is not set: give a Postgres URL (or libpq's PG* variables), or `run` and `sync` with --embedded",
      );
    }
  }
  if (needs.database) {
    const { DATABASE_URL: url, LISTEN_DATABASE_URL: listen, CRM_DATABASE_URL: crm } = loaded;
    problems.push(...libpqProblems(env, [url, ...[listen, crm].filter((one) => one && one !== 'off')]));
  }
  if (
    needs.upstream &&
    env.WHATSAPP_USE_API_KEY === undefined &&
    env.WHATSAPP_USE_API_KEY_FILE === undefined
  ) {
    problems.push(
      'WHATSAPP_USE_API_KEY is not set: give an API key, with the scope whatsapp:read, or webhooks:manage for `webhook`',
    );
  }
  checkTogether(loaded, problems);
  checkProxies(env, problems);
  const warnings = checkNames(env, problems);
  for (const [name, setting] of Object.entries(SETTINGS) as [SettingName, Setting][]) {
    if (setting.default !== undefined) settings[name] ??= setting.value(setting.default);
  }
  return { settings: Object.freeze(loaded), problems, warnings };
}

/** A setting's text: of the variable, of the file that `NAME_FILE` names, or the default. */
function textOf(
  env: Environment,
  name: SettingName,
  setting: Setting,
  problems: string[],
): string | undefined {
  const plain = env[name];
  const file = setting.secret ? env[`${name}_FILE`] : undefined;
  if (plain !== undefined && file !== undefined) {
    problems.push(`${name} and ${name}_FILE are both set: keep one`);
    return undefined;
  }
  if (file !== undefined) {
    try {
      const text = readSecret(file);
      if (text === '') problems.push(`${name}_FILE names an empty file`);
      return text === '' ? undefined : text;
    } catch (error) {
      problems.push(
        `${name}_FILE names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`,
      );
      return undefined;
    }
  }
  if (plain === undefined) return setting.default;
  if (plain.trim() === '') {
    // Compose writes an empty text for a variable that is not set; for a secret it would hide a mistake.
    if (setting.secret) problems.push(`${name} is empty: set it, or remove it`);
    return setting.default;
  }
  return plain;
}

/** A secret as a file holds it, without the line end that editors add. */
export function readSecret(path: string): string {
  return readFileSync(path, 'utf8').trim();
}

/** What is wrong only together. */
function checkTogether(settings: Settings, problems: string[]): void {
  const url = settings.WHATSAPP_USE_BASE_URL;
  if (url?.protocol === 'http:' && !isLoopback(url) && settings.WHATSAPP_USE_ALLOW_HTTP === false) {
    problems.push(
      'WHATSAPP_USE_BASE_URL is plain http to another host, which shows the key to the network: use https, or set WHATSAPP_USE_ALLOW_HTTP=true',
    );
  }
  if (settings.PAGE_LIMIT > settings.PAGE_LIMIT_MAX) {
    problems.push('PAGE_LIMIT is above PAGE_LIMIT_MAX: lower the one, or raise the other');
  }
  if (settings.ALERT_WEBHOOK_SECRET !== undefined && settings.ALERT_WEBHOOK_URL === undefined) {
    problems.push('ALERT_WEBHOOK_SECRET is set without ALERT_WEBHOOK_URL: there is nothing to sign');
  }
  if (settings.RETAIN_MESSAGES !== undefined && settings.RETAIN_MESSAGES < settings.RETENTION_WINDOW) {
    problems.push(
      'RETAIN_MESSAGES is shorter than RETENTION_WINDOW, so that messages would be deleted which the upstream still serves: raise it',
    );
  }
  for (const name of ['CRM_DATABASE_URL', 'CRM_LINK_CRON'] as const) {
    if (settings[name] !== undefined && settings.CRM_CONTACTS_QUERY === undefined) {
      problems.push(`${name} is set without CRM_CONTACTS_QUERY: there is nothing to read`);
    }
  }
  const { MEDIA_STORE: store } = settings;
  if (store !== undefined && (store === 'off' || store.kind === 'file')) {
    for (const name of ['MEDIA_S3_ENDPOINT', 'MEDIA_S3_REGION'] as const) {
      if (settings[name] !== undefined) problems.push(`${name} is set, but MEDIA_STORE is no s3:// URL`);
    }
  }
  if (settings.BACKOFF_MIN > settings.BACKOFF_MAX) {
    problems.push('BACKOFF_MIN is above BACKOFF_MAX: lower the one, or raise the other');
  }
}

/** Variables that undici reads, with an internal error where it cannot. */
const PROXIES = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'];

function checkProxies(env: Environment, problems: string[]): void {
  for (const name of PROXIES) {
    const text = env[name] || 'http://none';
    if (/^(https?|socks5?):\/\//i.test(text) && URL.canParse(text)) continue;
    problems.push(`${name} is no URL of a proxy: write it as http://host:port`);
  }
}

/**
 * What Kubernetes puts into every pod for each Service of its namespace, unless `enableServiceLinks` is false, and Docker
 * for a link: with a Service called `wa-replica`, or `wa-replica-postgres`, under names that begin as ours.
 */
const SERVICE_LINK = /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;

function isServiceLink(name: string, value = ''): boolean {
  // By its value, since `WA_REPLICA_PORT=8080` is a slip.
  return SERVICE_LINK.test(name) || (name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value));
}

/** Names that are nearly, but not quite, a setting's. */
function checkNames(env: Environment, problems: string[]): string[] {
  const known = (Object.entries(SETTINGS) as [string, Setting][]).flatMap(([name, { secret }]) =>
    secret ? [name, `${name}_FILE`] : [name],
  );
  const warnings: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (known.includes(name) || isServiceLink(name, value)) continue;
    const near = known.find((one) => isNear(name.toUpperCase(), one));
    const meant = near === undefined ? '' : `; ${near} is meant?`;
    if (name.startsWith('WA_REPLICA_')) problems.push(`${name} is no setting of wa-replica${meant}`);
    else if (near !== undefined) warnings.push(`${name} is no setting of wa-replica${meant}`);
  }
  return warnings;
}

/** Whether one is the other but for a slip: a letter, two in a long name, or two that changed places. */
function isNear(name: string, known: string): boolean {
  const slips = distance(name, known);
  const letters = (text: string) => [...text].sort().join('');
  return slips <= (known.length > 8 ? 2 : 1) || (slips === 2 && letters(name) === letters(known));
}
