import { type Kysely, sql } from 'kysely';
import { otherJid } from './message-counts.ts';
import type { Database } from './schema.ts';

/**
 * An index on a table that may be large by the time when a version brings it. A migration would lock the table for as
 * long as it is built; these are built beside the work, outside any transaction. What is right must not depend on
 * them: they may come hours after the version that has them.
 */
export interface LargeIndex {
  readonly name: string;
  /** One of our tables. */
  readonly table: keyof Database;
  /** What follows the table: `(connection_id, sender_jid) where deleted_at is null`. */
  readonly definition: string;
}

/** Those that the tables began with came in the first migration. */
export const LARGE_INDEXES: readonly LargeIndex[] = [
  {
    // A person's messages, newest first, in whichever chat: the pages of `message_feed` that a CRM shows first.
    name: 'messages_by_person',
    table: 'messages',
    definition: `(connection_id, (${otherJid('')}), sent_at)`,
  },
];

/**
 * Builds those that are missing. One that is there is left alone; what an attempt that was cut off has left is dropped
 * and built again. Of several processes one builds, and the others go on without waiting.
 * @param db with two connections at least: one builds, one holds the lock.
 * @returns the names of those that were built.
 */
export async function buildIndexes(
  db: Kysely<Database>,
  schema: string,
  indexes: readonly LargeIndex[] = LARGE_INDEXES,
): Promise<string[]> {
  if ((await toBuild(db, schema, indexes)).length === 0) return [];
  const lock = await db.startTransaction().setIsolationLevel('read committed').execute();
  try {
    // Without parameters: the extended protocol would keep a snapshot, which the building would wait for.
    const { rows } = await sql<{ mine: boolean }>`
      select pg_try_advisory_xact_lock(hashtext('wa_replica indexes'), hashtext(${sql.lit(schema)})) as mine`.execute(
      lock,
    );
    if (rows[0]?.mine !== true) return [];
    // Asked again: another may have built them in between.
    const missing = await toBuild(db, schema, indexes);
    for (const { name, table, definition } of missing) {
      // What is there is invalid; whoever still builds it is waited for.
      await sql`drop index concurrently if exists ${sql.id(schema, name)}`.execute(db);
      // Postgres builds that of a partitioned table (docs/scaling.md) in one go only.
      const way = sql.raw((await isPartitioned(db, schema, table)) ? '' : 'concurrently');
      await sql`create index ${way} ${sql.id(name)} on ${sql.table(table)} ${sql.raw(definition)}`.execute(
        db,
      );
    }
    return missing.map(({ name }) => name);
  } finally {
    // A lock that was lost is given back already.
    await lock
      .rollback()
      .execute()
      .catch(() => {});
  }
}

async function isPartitioned(db: Kysely<Database>, schema: string, table: string): Promise<boolean> {
  const { rows } = await sql`select from pg_class
    where relnamespace = ${schema}::regnamespace and relname = ${table} and relkind = 'p'`.execute(db);
  return rows.length > 0;
}

/** Those that are not there, or not valid and not being built now. */
async function toBuild(
  db: Kysely<Database>,
  schema: string,
  indexes: readonly LargeIndex[],
): Promise<readonly LargeIndex[]> {
  if (indexes.length === 0) return [];
  const names = indexes.map(({ name }) => name);
  const { rows } = await sql<{ name: string }>`
    select c.relname as name from pg_class c join pg_index i on i.indexrelid = c.oid
    where c.relnamespace = ${schema}::regnamespace and c.relname = any(${names}::text[])
      and (i.indisvalid
        or exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid))`.execute(
    db,
  );
  const there = new Set(rows.map((row) => row.name));
  return indexes.filter(({ name }) => !there.has(name));
}
