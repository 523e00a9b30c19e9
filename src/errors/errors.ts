import { NO_PASSWORD, PASSFILE_PERMISSIONS } from './codes.ts';
import { remedy } from './remedies.ts';

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

/** Whether Postgres is out of reach, starts or stops: the narrower part of {@link mayPass}, for a foreign error. */
export function isOutage(error: unknown): boolean {
  if (!isOfPostgres(error) || !mayPass(error)) return false;
  const state = sqlstate(error);
  return state === undefined || /^(08|57P0[123])/.test(state);
}

/** Whether Postgres refuses a value, and not to work: SQLSTATE class 22 (data) or 54 (limits) (R9). */
export function refusesData(error: unknown): boolean {
  return /^(22|54)/.test(sqlstate(error) ?? '');
}
