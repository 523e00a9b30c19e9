import { sql } from 'kysely';
import { sqlstate } from '../errors/errors.ts';
import type { Db } from './database.ts';

/** Why parts of words have no index: what to say, and what to do. */
export interface PartsObstacle {
  readonly message: string;
  readonly hint: string;
}

/** The schema that pg_trgm is in; undefined where there is none. */
export async function trigramSchema(db: Db): Promise<string | undefined> {
  const { rows } = await sql<{ schema: string }>`
    select n.nspname as schema from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'pg_trgm'`.execute(db);
  return rows[0]?.schema;
}

/** SQLSTATEs of an extension that may not be created, of no schema `public`, and of one that is not installed. */
const CANNOT: readonly string[] = ['42501', '3F000', '0A000', '58P01'];

/**
 * Creates pg_trgm where it is missing and this role may: in `public`, where whoever else wants it finds it. No migration
 * does, for all else works without.
 * @returns the schema that it is in, or what is in the way.
 */
export async function makeTrigrams(db: Db): Promise<{ schema?: string; obstacle?: PartsObstacle }> {
  const there = await trigramSchema(db);
  if (there !== undefined) return { schema: there };
  try {
    await sql`create extension if not exists pg_trgm schema public`.execute(db);
  } catch (error) {
    // Another process that is at it too: it is there now.
    if (['23505', '42710'].includes(sqlstate(error) ?? ''))
      return { schema: (await trigramSchema(db)) ?? 'public' };
    if (!CANNOT.includes(sqlstate(error) ?? '')) throw error;
    return { obstacle: NO_EXTENSION };
  }
  return { schema: (await trigramSchema(db)) ?? 'public' };
}

export const NO_EXTENSION: PartsObstacle = {
  message: 'parts of words have no index: pg_trgm cannot be created',
  hint:
    'as a role that may, `create extension pg_trgm` in this database (it comes with postgresql-contrib), ' +
    'then restart `run`, or run `wa-replica migrate` as the owner of the tables; or set SEARCH=on',
};
