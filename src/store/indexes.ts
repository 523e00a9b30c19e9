import { type Kysely, type RawBuilder, sql } from 'kysely';
import type { Db } from './database.ts';
import { otherJid } from './message-counts.ts';
import type { Database } from './schema.ts';
import { makeTrigrams, type PartsObstacle } from './trigrams.ts';

/** An index, for who need not build it. */
export interface NamedIndex {
  readonly name: string;
  /** One of our tables. */
  readonly table: keyof Database;
}

/**
 * An index on a table that may be large by the time when a version brings it. A migration would lock the table for as
 * long as it is built; these are built beside the work, outside any transaction. What is right must not depend on
 * them: they may come hours after the version that has them.
 */
export interface LargeIndex extends NamedIndex {
  /** What follows the table: `(connection_id, sender_jid) where deleted_at is null`. */
  readonly definition: string;
}

/** The words of messages (SEARCH), as `search_messages` looks for them: by the configuration that knows no language. A
 * tsvector holds 1 MiB, so what is over the 65,536 characters that WhatsApp allows is left out of it: a body of any
 * length and any content fits. Not partial: Postgres keeps statistics of its expression only of a whole one. */
export const SEARCH_INDEX: LargeIndex = {
  name: 'messages_by_words',
  table: 'messages',
  definition: `using gin (to_tsvector('simple'::regconfig, left(body, 65536)))`,
};

/** Parts of words (SEARCH=parts), by pg_trgm. Its operator class is named with the schema that the extension is in.
 * @param extension that schema. */
const partsIndex = (extension: string): LargeIndex => ({
  ...PARTS_INDEX,
  definition: `using gin (left(body, 65536) "${extension.replaceAll('"', '""')}".gin_trgm_ops)`,
});

/** As far as one need not know where the extension is. */
export const PARTS_INDEX = { name: 'messages_by_parts', table: 'messages' } as const;

/** What is indexed for the search: nothing, words, or parts of words too. */
export type SearchKind = 'off' | 'on' | 'parts';

/** Those that the tables began with came in the first migration. */
export const LARGE_INDEXES: readonly LargeIndex[] = [
  {
    // A person's messages, newest first, in whichever chat: the pages of `message_feed` that a CRM shows first.
    name: 'messages_by_person',
    table: 'messages',
    definition: `(connection_id, (${otherJid('')}), sent_at)`,
  },
];

/** SQL: the sessions that build an index in this database. */
export const INDEX_BUILDERS = sql`array(select pid from pg_stat_progress_create_index where datname = current_database())`;

/** What came of {@link tendIndexes}; indexes by their names. */
export interface Tended {
  readonly built: string[];
  readonly dropped: string[];
  /** Those that are wanted and do not stand yet: another process is at them. */
  readonly left: string[];
  /** What is in the way of searching parts. */
  readonly obstacle?: PartsObstacle;
}

/**
 * Brings the large indexes to what the settings want: those of the search are there only for it. The extension that
 * parts of words need is made where this role may, and never dropped: others may use it.
 * @param db as {@link buildIndexes} wants it.
 * @param onBuilding told of each that is begun.
 */
export async function tendIndexes(
  db: Kysely<Database>,
  schema: string,
  { search }: { readonly search: SearchKind },
  onBuilding?: (name: string) => void,
): Promise<Tended> {
  const unwanted = { off: [SEARCH_INDEX, PARTS_INDEX], on: [PARTS_INDEX], parts: [] }[search];
  const dropped = await dropIndexes(db, schema, unwanted);
  const wanted = [...LARGE_INDEXES, ...(search === 'off' ? [] : [SEARCH_INDEX])];
  const built = await buildIndexes(db, schema, wanted, onBuilding);
  const { schema: extension, obstacle } = search === 'parts' ? await makeTrigrams(db) : {};
  if (extension !== undefined) {
    const parts = partsIndex(extension);
    wanted.push(parts);
    built.push(...(await buildIndexes(db, schema, [parts], onBuilding)));
  }
  const standing = await valid(db, schema, wanted);
  const left = wanted.flatMap(({ name }) => (standing.has(name) ? [] : [name]));
  return { built, dropped, left, ...(obstacle !== undefined && { obstacle }) };
}

/** Whether an index is there and can be used. */
export async function indexStands(db: Db, schema: string, index: NamedIndex): Promise<boolean> {
  return (await valid(db, schema, [index])).size > 0;
}

/** The names of those that are there and can be used. */
async function valid(db: Db, schema: string, indexes: readonly NamedIndex[]): Promise<ReadonlySet<string>> {
  const names = indexes.map(({ name }) => name);
  const { rows } = await sql<{ name: string }>`
    select c.relname as name from pg_class c join pg_index i on i.indexrelid = c.oid
    where c.relnamespace = ${schema}::regnamespace and c.relname = any(${names}::text[]) and i.indisvalid`.execute(
    db,
  );
  return new Set(rows.map((row) => row.name));
}

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
  onBuilding: (name: string) => void = () => {},
): Promise<string[]> {
  if ((await toBuild(db, schema, indexes)).length === 0) return [];
  return await alone(db, schema, async () => {
    // Asked again: another may have built them in between.
    const missing = await toBuild(db, schema, indexes);
    for (const { name, table, definition } of missing) {
      onBuilding(name);
      // What is there is invalid; whoever still builds it is waited for.
      await sql`drop index concurrently if exists ${sql.id(schema, name)}`.execute(db);
      const way = await wayOf(db, schema, table);
      await sql`create index ${way} ${sql.id(name)} on ${sql.table(table)} ${sql.raw(definition)}`.execute(
        db,
      );
    }
    // Of an expression there are statistics only once its index is there, and the planner goes by them.
    for (const table of new Set(missing.map((one) => one.table))) {
      await sql`analyze ${sql.table(table)}`.execute(db);
    }
    return missing.map(({ name }) => name);
  });
}

/** Drops those that are there, beside the work. @returns their names. */
async function dropIndexes(
  db: Kysely<Database>,
  schema: string,
  indexes: readonly NamedIndex[],
): Promise<string[]> {
  if (indexes.length === 0) return [];
  const there = () => existing(db, schema, indexes);
  if ((await there()).length === 0) return [];
  return await alone(db, schema, async () => {
    const dropped = await there();
    for (const { name, table } of dropped) {
      const way = await wayOf(db, schema, table);
      await sql`drop index ${way} if exists ${sql.id(schema, name)}`.execute(db);
    }
    return dropped.map(({ name }) => name);
  });
}

/** Does it while no other process is at the indexes; where one is, nothing, without waiting. */
async function alone(db: Kysely<Database>, schema: string, work: () => Promise<string[]>): Promise<string[]> {
  const lock = await db.startTransaction().setIsolationLevel('read committed').execute();
  try {
    // It stands still while the indexes are built on another connection, and locks nothing of anybody else's.
    await sql`set local idle_in_transaction_session_timeout = 0`.execute(lock);
    // Without parameters: the extended protocol would keep a snapshot, which the building would wait for.
    const { rows } = await sql<{ mine: boolean }>`
      select pg_try_advisory_xact_lock(hashtext('wa_replica indexes'), hashtext(${sql.lit(schema)})) as mine`.execute(
      lock,
    );
    return rows[0]?.mine === true ? await work() : [];
  } finally {
    // A lock that was lost is given back already.
    await lock
      .rollback()
      .execute()
      .catch(() => {});
  }
}

/** Postgres builds and drops that of a partitioned table (docs/scaling.md) in one go only. */
async function wayOf(db: Kysely<Database>, schema: string, table: string): Promise<RawBuilder<unknown>> {
  const { rows } = await sql`select from pg_class
    where relnamespace = ${schema}::regnamespace and relname = ${table} and relkind = 'p'`.execute(db);
  return sql.raw(rows.length > 0 ? '' : 'concurrently');
}

/** Those that are there, whole or not. */
async function existing(
  db: Kysely<Database>,
  schema: string,
  indexes: readonly NamedIndex[],
): Promise<NamedIndex[]> {
  const names = indexes.map(({ name }) => name);
  const { rows } = await sql<{ name: string }>`select relname as name from pg_class
    where relnamespace = ${schema}::regnamespace and relkind in ('i', 'I') and relname = any(${names}::text[])`.execute(
    db,
  );
  return indexes.filter(({ name }) => rows.some((row) => row.name === name));
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
        or exists (select from pg_stat_progress_create_index p
          where p.datname = current_database() and p.index_relid = i.indexrelid))`.execute(db);
  const there = new Set(rows.map((row) => row.name));
  return indexes.filter(({ name }) => !there.has(name));
}
