import { type Kysely, sql } from 'kysely';
import type { Database } from './schema.ts';
import { serverFacts, type Unfit } from './server.ts';

/** Something of the server or the database that puts what is stored at risk, although everything works. */
export interface Hazard extends Unfit {
  /** `collation`: rows may be there twice already. `durability`: rows may be lost with the next failure. */
  readonly of: 'collation' | 'durability';
}

/** How long a commit may wait for a standby, and be usual. */
const REPLICATED_WITHIN = '1 second';

/** How many commits of the role wait for a synchronous standby that does not answer: nothing is stored meanwhile. */
export async function waitingCommits(db: Kysely<Database>): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from pg_stat_activity
    where datname = current_database() and usename = current_user and wait_event = 'SyncRep'
      and state_change < clock_timestamp() - ${sql.lit(REPLICATED_WITHIN)}::interval`.execute(db);
  return rows[0]!.count;
}

/** The first that notes with which version of its collation a database was made. */
const NOTES_COLLATION = 150_000;

/** What an operator should know of, and mend. */
export async function hazards(db: Kysely<Database>): Promise<Hazard[]> {
  const stale = await staleCollation(db);
  return [...(stale === undefined ? [] : [stale]), ...(await undurable(db))];
}

/**
 * Whether the database was made with another version of its collation than the operating system has now: an update of
 * glibc or ICU, another image, a standby of another system. Its indexes of texts, the keys among them, may then be in a
 * wrong order, and let a row in twice. Postgres itself says so at each login, to whoever reads its notices.
 * @returns undefined where the order is the same, has no versions (`C`), or the server does not note it (before 15).
 */
export async function staleCollation(db: Kysely<Database>): Promise<Hazard | undefined> {
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
    of: 'collation',
    what:
      `${database} was made with version ${row.noted} of its collation, and the system has ${row.actual}: ` +
      'indexes may be out of order, keys too',
    remedy:
      `with all workers stopped, as the owner: REINDEX DATABASE ${quoted}; ` +
      `ALTER DATABASE ${quoted} REFRESH COLLATION VERSION; then \`wa-replica verify\``,
  };
}

/**
 * Settings by which Postgres says "committed" of what a failure may still take. A managed service may keep it by other
 * means all the same. Not `full_page_writes`, which a file system that writes whole pages does not need.
 */
async function undurable(db: Kysely<Database>): Promise<Hazard[]> {
  const { rows } = await sql<{ fsync: boolean; commits: boolean; role: string }>`
    select current_setting('fsync')::boolean as fsync, current_setting('synchronous_commit') <> 'off' as commits,
      current_user as role`.execute(db);
  const { fsync, commits, role } = rows[0]!;
  const found: Hazard[] = [];
  if (!fsync) {
    found.push({
      of: 'durability',
      what: 'fsync is off: when its machine fails, Postgres may lose what it has committed, and find tables damaged',
      remedy:
        'as a superuser: ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf(); unless a managed service keeps it by other means',
    });
  }
  if (!commits) {
    found.push({
      of: 'durability',
      what: 'synchronous_commit is off: what is committed just before Postgres fails is lost; pages come again, an erasure does not',
      remedy: `where it is set, or: ALTER ROLE "${role.replaceAll('"', '""')}" SET synchronous_commit = on; then restart the workers`,
    });
  }
  return found;
}
