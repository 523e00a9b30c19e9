/** What a person can do about a failure, by its kind, and by its code where more is known. */
import {
  COMPRESSED,
  CONNECTION_LOST,
  LOCKED,
  NO_CONNECTION,
  NO_PASSWORD,
  PASSFILE_PERMISSIONS,
  POOL_BUSY,
  RECORD_TOO_LARGE,
  STARTED_OVER_TWICE,
  STATEMENT_TIMEOUT,
  TRANSACTION_TIMEOUT,
  WENT_BACK,
} from './codes.ts';
import type { ErrorKind, ReplicaError } from './errors.ts';

/** What a person can do about a kind of failure; shown in `status`, logs and on the page. */
const REMEDIES: Partial<Record<ErrorKind, string>> = {
  network: 'check that the upstream is reachable from this machine (DNS, proxy, firewall)',
  rate_limited: 'the upstream limits the key; lower REQUEST_RATE if this stays',
  protocol: 'the answer is not as the API documents it; check WHATSAPP_USE_BASE_URL, and what stands between',
  oversize: 'the answer is too large even at the smallest limit; raise MAX_RESPONSE_BYTES',
  stalled: 'the upstream makes no progress for this connection; ask the vendor',
  database: 'check that Postgres is up, reachable, writable and has disk space',
  media_store: 'check MEDIA_STORE: that it is there, reachable, writable and has space',
  unauthorized: 'check WHATSAPP_USE_API_KEY and its scope whatsapp:read',
  payment_required: 'the subscription of the organization has to be renewed',
  not_found: 'the key does not reach this connection; check WHATSAPP_USE_CONNECTION_IDS',
  not_paired: 'pair the WhatsApp account again',
  erasure_key:
    'set ERASURE_KEY to the key that `erase` was run with, and restart; without it what was erased would come back',
  migration_failed:
    'see what `wa-replica doctor` says of the privileges; the text of the error is in the log of Postgres',
  bad_request: 'the upstream refuses the request; check WHATSAPP_USE_CONNECTION_IDS and the key',
};

/** Of a schema, a table or a column that is not there: the database was made anew, or is of another version. */
const OTHER_TABLES =
  'the tables are not there, or not those of this version: see `wa-replica migrate --status`, then run `wa-replica migrate`';

/** What to do about a failure of Postgres, by SQLSTATE or network code, where it is known better. */
const DATABASE_REMEDIES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: check that Postgres runs, and host and port of DATABASE_URL',
  ENOTFOUND:
    'the host of DATABASE_URL has no address: check its spelling and DNS; a container has one only while it runs',
  EAI_AGAIN: 'the host of DATABASE_URL cannot be looked up now: check its spelling and DNS',
  ETIMEDOUT:
    'no answer: check host and port of DATABASE_URL, firewalls, and whether commits wait for a synchronous standby (`wa-replica doctor`)',
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
  '25006':
    'the server only reads: where it is a standby point DATABASE_URL at the primary, else see default_transaction_read_only of the role and the database',
  '3F000': OTHER_TABLES,
  '42P01': OTHER_TABLES,
  '42703': OTHER_TABLES,
  '25P03':
    'this process stood still in a transaction, or the role has too short an idle_in_transaction_session_timeout',
  [TRANSACTION_TIMEOUT]:
    'this process stood still in a transaction, or the role has too short a transaction_timeout: raise it',
  [LOCKED]:
    'somebody else holds a lock for long: find the session in pg_locks and pg_stat_activity, or a transaction in pg_prepared_xacts, and end it',
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

/** Of a table, a view, an index or a function that a migration would make, and that is there. */
const TAKEN =
  "the schema has something of that name already: where it is somebody else's, set another WA_REPLICA_SCHEMA; where it is a copy, its kysely_migration lacks rows: restore it whole";

/** The same of every kind. */
const CODE_REMEDIES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  database: DATABASE_REMEDIES,
  migration_failed: { '42P07': TAKEN, '42723': TAKEN },
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

/** SQLSTATEs of constraints (class 23) and triggers, and of a refusal that no record was found for (22, 54): the tables come
 * with no trigger, and with hardly more constraints than their keys. */
const OF_OTHERS = /^(?:(?:22|23|54)...|P0001)$/;
const SEE_WHOSE =
  'a trigger or a constraint on the tables refuses a row; where it is none of wa-replica, mend or drop it: the log of Postgres names it';

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
