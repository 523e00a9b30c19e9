import { type Kysely, sql } from 'kysely';
import { ReplicaError } from '../errors.ts';
import type { Database } from './schema.ts';

/** What a server and a database are, before there is any table of ours. */
export interface ServerFacts {
  /** As `server_version_num` has it. */
  readonly version: number;
  /** As people write it: `18.4`. */
  readonly name: string;
  readonly database: string;
  /** Of the database's text: `UTF8`. */
  readonly encoding: string;
  /** A standby, or a role or database that is set so. */
  readonly readOnly: boolean;
  /** The server's clock. */
  readonly now: Date;
}

/** What is wrong, and what to do about it. */
export interface Unfit {
  readonly what: string;
  readonly remedy: string;
}

/** Oldest Postgres that the tables work on. */
const OLDEST = 140_000;

/** The first that notes with which version of its collation a database was made. */
const NOTES_COLLATION = 150_000;

export async function serverFacts(db: Kysely<Database>): Promise<ServerFacts> {
  const { rows } = await sql<ServerFacts>`
    select current_setting('server_version_num')::integer as version, current_setting('server_version') as name,
      current_database() as database, current_setting('server_encoding') as encoding,
      current_setting('transaction_read_only')::boolean as "readOnly",
      clock_timestamp() as now`.execute(db);
  return rows[0]!;
}

/**
 * Why the tables cannot be there; undefined where they can. In any encoding but UTF8 there are texts that cannot be
 * stored, the quarantine's among them: the connection would stand still.
 */
export function unfit({ version, name, database, encoding }: ServerFacts): Unfit | undefined {
  if (version < OLDEST) {
    return { what: `PostgreSQL ${name} is too old`, remedy: 'use PostgreSQL 14 or newer' };
  }
  if (encoding === 'UTF8') return undefined;
  return {
    what: `${database} has the encoding ${encoding}, which cannot hold every text`,
    remedy: "use a database of UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;",
  };
}

/** @throws ReplicaError `database_unfit` where {@link unfit} finds something. */
export async function requireFit(db: Kysely<Database>): Promise<void> {
  const found = unfit(await serverFacts(db));
  if (found === undefined) return;
  throw new ReplicaError('database_unfit', { where: found.what, hint: found.remedy });
}

/**
 * Whether the database was made with another version of its collation than the operating system has now: an update of
 * glibc or ICU, another image, a standby of another system. Its indexes of texts, the keys among them, may then be in a
 * wrong order, and let a row in twice. Postgres itself says so at each login, to whoever reads its notices.
 * @returns undefined where the order is the same, has no versions (`C`), or the server does not note it (before 15).
 */
export async function staleCollation(db: Kysely<Database>): Promise<Unfit | undefined> {
  const { version, database } = await serverFacts(db);
  if (version < NOTES_COLLATION) return undefined;
  const { rows } = await sql<{ noted: string; actual: string }>`
    select d.datcollversion as noted, a.actual
    from pg_database d cross join lateral (select pg_database_collation_actual_version(d.oid) as actual) a
    where d.datname = current_database() and a.actual <> d.datcollversion`.execute(db);
  const [row] = rows;
  if (row === undefined) return undefined;
  const quoted = `"${database.replaceAll('"', '""')}"`;
  return {
    what:
      `${database} was made with version ${row.noted} of its collation, and the system has ${row.actual}: ` +
      'indexes may be out of order, keys too',
    remedy:
      `with all workers stopped, as the owner: REINDEX DATABASE ${quoted}; ` +
      `ALTER DATABASE ${quoted} REFRESH COLLATION VERSION; then \`wa-replica verify\``,
  };
}
