import { type Kysely, sql } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
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
