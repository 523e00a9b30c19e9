/**
 * Every failure has a kind, and the kind decides what is done about it (R13). Decided by HTTP status, SQLSTATE
 * or network code, never by message text. What is kept of an error is its kind, its code and its place: the
 * texts of Postgres quote values, and those of URLs carry passwords (R18).
 */

/** `retry`: again, with backoff. `park`: again every BACKOFF_MAX, shown with what to do. `fatal`: the process ends. */
export type Verdict = 'retry' | 'park' | 'fatal';

const VERDICTS = {
  network: 'retry',
  timeout: 'retry',
  rate_limited: 'retry',
  upstream: 'retry',
  not_ready: 'retry',
  protocol: 'retry',
  oversize: 'retry',
  stalled: 'retry',
  database: 'retry',
  media_store: 'retry',
  lease_lost: 'retry',
  crm: 'retry',
  internal: 'retry',
  unauthorized: 'park',
  payment_required: 'park',
  not_found: 'park',
  not_paired: 'park',
  bad_request: 'park',
  erasure_key: 'park',
  database_unfit: 'fatal',
  schema_newer: 'fatal',
  schema_pending: 'fatal',
  migration_failed: 'fatal',
} as const satisfies Record<string, Verdict>;

export type ErrorKind = keyof typeof VERDICTS;

/** What a person can do about a kind of failure; shown in `status`, logs and on the page. */
const REMEDIES: Partial<Record<ErrorKind, string>> = {
  network: 'check that the upstream is reachable from this machine (DNS, proxy, firewall)',
  rate_limited: 'the upstream limits the key; lower REQUEST_RATE if this stays',
  protocol: 'the answer was no sync page; check WHATSAPP_USE_BASE_URL, and what stands between',
  oversize: 'the answer is too large even at the smallest limit; raise MAX_RESPONSE_BYTES',
  stalled: 'the upstream makes no progress for this connection; ask the vendor',
  database: 'check that Postgres is up, reachable, writable and has disk space',
  media_store: 'check MEDIA_STORE: that it is there, reachable, writable and has space',
  unauthorized: 'check WHATSAPP_USE_API_KEY and its scope whatsapp:read',
  payment_required: 'the subscription of the organization has to be renewed',
  not_found: 'the key does not reach this connection; check WHATSAPP_USE_CONNECTION_IDS',
  not_paired: 'pair the WhatsApp account again',
  erasure_key:
    'set ERASURE_KEY to the key that `erase` was run with, or restore it; without it what was erased would come back',
  migration_failed:
    'see what `wa-replica doctor` says of the privileges; the text of the error is in the log of Postgres',
  bad_request: 'the upstream refuses the request; check WHATSAPP_USE_CONNECTION_IDS and the key',
};

/** The password file that would be asked is open to others: see `passwordFromFile`. */
export const PASSFILE_PERMISSIONS = 'PASSFILE_PERMISSIONS';

/** Codes for what pg tells by text alone: see `PgClient` and `PgPool`. */
export const NO_PASSWORD = 'NO_PASSWORD';
export const NO_CONNECTION = 'NO_CONNECTION';
export const CONNECTION_LOST = 'CONNECTION_LOST';
export const POOL_BUSY = 'POOL_BUSY';

/** SQLSTATE of a statement that took longer than its limit. */
export const STATEMENT_TIMEOUT = '57014';
/** SQLSTATE of a transaction that took longer than its limit (Postgres 17 and newer). */
export const TRANSACTION_TIMEOUT = '25P04';

/** Codes of ours, for what is known better than its kind. */
export const WENT_BACK = 'cursor_went_back';
export const COMPRESSED = 'compressed';
export const RECORD_TOO_LARGE = 'record_too_large';
export const STARTED_OVER_TWICE = 'started_over_twice';

/** What to do about a failure of Postgres, by SQLSTATE or network code, where it is known better. */
const DATABASE_REMEDIES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: check that Postgres runs, and host and port of DATABASE_URL',
  ENOTFOUND:
    'the host of DATABASE_URL has no address: check its spelling and DNS; a container has one only while it runs',
  EAI_AGAIN: 'the host of DATABASE_URL cannot be looked up now: check its spelling and DNS',
  ETIMEDOUT: 'no answer: check host and port of DATABASE_URL, and firewalls',
  EHOSTUNREACH: 'no way to the host of DATABASE_URL: check it, and the network',
  ENETUNREACH: 'no way to the host of DATABASE_URL: check it, and the network',
  ENOENT: 'no socket there: check host and port of DATABASE_URL, and that Postgres runs',
  [NO_CONNECTION]:
    'no answer in time, cut off, or no TLS where the URL wants it: check host, port and sslmode of DATABASE_URL, and firewalls',
  [CONNECTION_LOST]:
    'the connection was cut: check that Postgres is up, and what stands between (a pooler, a firewall, a limit of time)',
  [POOL_BUSY]:
    'no connection of the pool came free in time: Postgres is slow or does not answer, or DB_POOL_SIZE is too small',
  [NO_PASSWORD]:
    'the server wants a password: put it into DATABASE_URL, or name a passfile there that has it, or set PGPASSWORD, or PGPASSFILE',
  [PASSFILE_PERMISSIONS]:
    'the server wants a password, and the file of PGPASSFILE, or ~/.pgpass, is not used while others may read it: chmod 600',
  '28P01': 'no such user, or wrong password: check DATABASE_URL',
  '28000': 'the server does not let this user in: check user and sslmode of DATABASE_URL, and pg_hba.conf',
  '3D000': 'there is no such database: create it, or check DATABASE_URL',
  '42501': 'the role lacks a privilege: run `wa-replica doctor`',
  '25006': 'the server is read-only (a standby?): point DATABASE_URL at the primary',
  '25P03':
    'this process stood still in a transaction, or the role has too short an idle_in_transaction_session_timeout',
  [TRANSACTION_TIMEOUT]:
    'this process stood still in a transaction, or the role has too short a transaction_timeout: raise it',
  '55P03':
    'somebody else holds a lock for long: find the session in pg_locks and pg_stat_activity, then try again',
  '53100': 'the disk of Postgres is full',
  '53300': 'Postgres has no connection free: raise max_connections, or lower DB_POOL_SIZE',
  [STATEMENT_TIMEOUT]:
    'a statement took too long: Postgres is slow, something is locked, or the role has too short a statement_timeout',
  '57P01': 'the server ended the connection: it is being stopped, or somebody ended the session',
  DEPTH_ZERO_SELF_SIGNED_CERT:
    'the certificate is self-signed: name its CA by sslrootcert, or NODE_EXTRA_CA_CERTS',
  SELF_SIGNED_CERT_IN_CHAIN: 'the CA is not known here: name it by sslrootcert, or NODE_EXTRA_CA_CERTS',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'the CA is not known here: name it by sslrootcert, or NODE_EXTRA_CA_CERTS',
  ERR_TLS_CERT_ALTNAME_INVALID: "the certificate is for another name: use the server's name in DATABASE_URL",
  CERT_HAS_EXPIRED: "the server's certificate has expired: renew it",
};

/** The same of every kind. */
const CODE_REMEDIES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  database: DATABASE_REMEDIES,
  protocol: {
    [WENT_BACK]:
      'where this stays, the upstream numbers anew: after RESET_CONFIRM all is fetched again by itself',
    [COMPRESSED]: 'something on the way compresses what is not asked for: see what stands between',
  },
  stalled: {
    [RECORD_TOO_LARGE]:
      'raise MAX_RESPONSE_BYTES: one record of this connection does not fit into four times of it',
    // No resync: it would take the new, lower numbers for old ones of this numbering.
    [STARTED_OVER_TWICE]: 'look at the account at the upstream; it is tried again by itself after an hour',
  },
};

/** SQLSTATEs of constraints (class 23) and triggers: the tables come with no trigger, and with hardly more constraints
 * than their keys. */
const OF_OTHERS = /^(?:23...|P0001)$/;
const SEE_WHOSE =
  'a trigger or a constraint on the tables refuses a row; where it is none of wa-replica, mend or drop it: the log of Postgres names it';

interface Details {
  /** What failed, without values: `GET /v1/whatsapp/sync`, `apply`. */
  readonly where: string;
  /** The HTTP status, SQLSTATE or network code. */
  readonly code?: string | undefined;
  /** What a person can do; the kind's own remedy where absent. */
  readonly hint?: string;
  readonly status?: number | undefined;
  /** How long the upstream asks to wait, in milliseconds. */
  readonly retryAfter?: number | undefined;
}

/** A failure with its verdict. Its message is safe to log: kind, code and place only. */
export class ReplicaError extends Error {
  override name = 'ReplicaError';
  readonly kind: ErrorKind;
  readonly code: string | undefined;
  readonly where: string;
  readonly hint: string | undefined;
  /** The HTTP status, where it came of one. */
  readonly status: number | undefined;
  readonly retryAfter: number | undefined;

  constructor(kind: ErrorKind, details: Details) {
    super(details.code === undefined ? details.where : `${details.where}: ${details.code}`);
    this.kind = kind;
    this.code = details.code;
    this.where = details.where;
    this.hint = details.hint ?? remedy(kind, details.code);
    this.status = details.status;
    this.retryAfter = details.retryAfter;
  }

  get verdict(): Verdict {
    return VERDICTS[this.kind];
  }

  /**
   * Wraps a foreign error under a kind, keeping its code and dropping its text; one of ours has its kind already.
   * `internal` is for those of which nothing is known: one of Postgres is `database` then.
   */
  static from(wanted: ErrorKind, error: unknown, where: string): ReplicaError {
    if (error instanceof ReplicaError) return error;
    const kind = wanted === 'internal' && isOfPostgres(error) ? 'database' : wanted;
    const wrapped = new ReplicaError(kind, { where, code: codeOf(error) });
    // A fault of this program is found by its place.
    if (kind === 'internal' && error instanceof Error && error.stack !== undefined)
      wrapped.stack = error.stack;
    return wrapped;
  }
}

/** What to do about a failure of this kind, and code; undefined for a kind that needs nobody. */
export function remedy(kind: string, code = ''): string | undefined {
  const known = CODE_REMEDIES[kind]?.[code];
  if (known !== undefined) return known;
  return kind === 'database' && OF_OTHERS.test(code) ? SEE_WHOSE : REMEDIES[kind as ErrorKind];
}

/** The same of one that was noted: the message of a {@link ReplicaError} ends with its code. */
export function remedyOf(failure: {
  readonly kind: string;
  readonly message: string | null;
}): string | undefined {
  return remedy(failure.kind, failure.message?.split(': ').at(-1));
}

/** Whether a failure of this kind parks its connection. */
export function parks(kind: string): boolean {
  return VERDICTS[kind as ErrorKind] === 'park';
}

/** The kind of an HTTP status other than 200 (R13). */
export function kindOfStatus(status: number): ErrorKind {
  if (status === 401 || status === 403) return 'unauthorized';
  if (status === 402) return 'payment_required';
  if (status === 404) return 'not_found';
  if (status === 409) return 'not_paired';
  if (status === 429) return 'rate_limited';
  if (status === 502 || status === 503) return 'not_ready';
  if (status >= 500) return 'upstream';
  if (status >= 400) return 'bad_request';
  // 1xx to 3xx: redirects are never followed, and none of them is a page.
  return 'protocol';
}

/** The code that a foreign error carries: SQLSTATE, network code, or the name of its class. */
export function codeOf(error: unknown, depth = 0): string {
  if (typeof error === 'object' && error !== null) {
    const { code, cause, name } = error as { code?: unknown; cause?: unknown; name?: unknown };
    if (typeof code === 'string') return code;
    if (typeof cause === 'object' && cause !== null && depth < 8) return codeOf(cause, depth + 1);
    if (typeof name === 'string') return name;
  }
  return typeof error;
}

/** The SQLSTATE of an error of Postgres itself, or of our functions in it (class WR); undefined for anything else. */
export function sqlstate(error: unknown): string | undefined {
  const { code } = (typeof error === 'object' && error !== null ? error : {}) as { code?: unknown };
  return typeof code === 'string' && /^(?:[0-9][0-9A-Z]|F0|HV|P0|WR|XX)[0-9A-Z]{3}$/.test(code)
    ? code
    : undefined;
}

/** Errors that Postgres or the way to it gave: of a code such as ECONNRESET alone nobody could tell. */
const ofPostgres = new WeakSet<Error>();

/** Notes that an error came from Postgres, or the way to it. */
export function noteOfPostgres(error: Error): void {
  ofPostgres.add(error);
}

function isOfPostgres(error: unknown): boolean {
  return ofPostgres.has(error as Error) || sqlstate(error) !== undefined;
}

/** An error with its kind and remedy, where these are known: one of ours, or of Postgres. */
export function recognize(error: unknown): ReplicaError | undefined {
  if (error instanceof ReplicaError) return error;
  return isOfPostgres(error) ? ReplicaError.from('database', error, 'using Postgres') : undefined;
}

/** SQLSTATEs of what ends by itself: connections cut, deadlocks, a read-only standby, a transaction that stood still or
 * took too long (this process was frozen in it), no space or no room left, a lock or a statement that took too long, a
 * server that starts or stops, a fault of its disk. */
const PASSES = /^(08|25006|25P0[34]|40|53|55P03|57014|57P0[1235]|58)/;

/** Whether it may go well later without anybody's help: Postgres is out of reach, or says so itself. */
export function mayPass(error: unknown): boolean {
  if (error instanceof ReplicaError) return error.kind === 'database';
  if ([NO_PASSWORD, PASSFILE_PERMISSIONS].includes(codeOf(error))) return false;
  // Those are faults of a program, ours or a migration's; a socket that ends has no class of its own.
  if (error instanceof TypeError || error instanceof SyntaxError || error instanceof ReferenceError)
    return false;
  const state = sqlstate(error);
  return state === undefined || PASSES.test(state);
}

/** Whether Postgres refuses a value, and not to work: SQLSTATE class 22 (data) or 54 (limits) (R9). */
export function refusesData(error: unknown): boolean {
  return /^(22|54)/.test(sqlstate(error) ?? '');
}
