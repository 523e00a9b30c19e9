/** Codes of failures that are not told by a code where they come from, or are known better than their kind. */

/** The password file that would be asked is open to others: see `passwordFromFile`. */
export const PASSFILE_PERMISSIONS = 'PASSFILE_PERMISSIONS';

/** Codes for what pg tells by text alone: see `PgClient` and `PgPool`. */
export const NO_PASSWORD = 'NO_PASSWORD';
export const NO_CONNECTION = 'NO_CONNECTION';
export const CONNECTION_LOST = 'CONNECTION_LOST';
export const POOL_BUSY = 'POOL_BUSY';

/** SQLSTATE of a lock that was not had in time. */
export const LOCKED = '55P03';
/** SQLSTATE of a statement that took longer than its limit. */
export const STATEMENT_TIMEOUT = '57014';
/** SQLSTATE of a transaction that took longer than its limit (Postgres 17 and newer). */
export const TRANSACTION_TIMEOUT = '25P04';

/** Codes of ours, for what is known better than its kind. */
export const WENT_BACK = 'cursor_went_back';
export const COMPRESSED = 'compressed';
export const RECORD_TOO_LARGE = 'record_too_large';
export const STARTED_OVER_TWICE = 'started_over_twice';
