import { sql } from 'kysely';
import { CONVERSATION, type Entity, MESSAGE } from '../entities.ts';
import type { ConnectionId, Row } from '../model.ts';
import type { Db } from './database.ts';
import { contentColumns, merged } from './entity-columns.ts';
import { membershipDiff } from './participants.ts';
import { recordset } from './recordset.ts';

/**
 * How a record that the upstream serves compares with the stored row. `older`: the stored one is. `different`: other
 * content at an equal version, or, where the record has no version of its own, other content in a row that was not
 * written since. `conflicting`, `ahead`: the stored row claims a newer version than the upstream serves, with other
 * content, or with the same.
 */
export type Verdict = 'same' | 'missing' | 'older' | 'different' | 'conflicting' | 'ahead';

/** The version of a record that came without one of its own, until it is written. */
export const UNVERSIONED = -1n;

/** What a list is compared under. */
export interface CompareTarget {
  readonly connectionId: ConnectionId;
  readonly numbering: number;
  /** The connection's cursor before the request: the version under which a record is written that has none of its own
   * (R2). */
  readonly cursor: string;
  /** The database's time as of which the list is, at the earliest. A row that was written since may be newer than the
   * record. */
  readonly asOf: string;
  /** Rows that are counted as known: stored before then, and, of messages, sent after `sentAfter`. */
  readonly storedBefore: string;
  readonly sentAfter: string | null;
}

export interface Compared {
  /** Ids by verdict; those of `same` are not told. */
  readonly ids: Readonly<Record<Exclude<Verdict, 'same'>, readonly string[]>>;
  /** How many of the records have a row that counts as known. */
  readonly known: number;
}

/**
 * Compares rows of one kind, each id once, with what is stored; one statement, nothing is written or locked.
 * @param partial the rows tell only some fields: those alone are compared (R7).
 */
export async function compare(
  db: Db,
  entity: Entity,
  rows: readonly Row[],
  target: CompareTarget,
  partial: boolean,
): Promise<Compared> {
  const { key, version } = entity;
  const { connectionId, numbering, asOf, storedBefore, sentAfter } = target;
  const raw = sql.raw;
  const members = entity === CONVERSATION;
  const content = contentColumns(entity);
  const of = (alias: string) => content.map((column) => `${alias}.${column}`).join(', ');
  const incoming = partial ? content.map(merged).join(', ') : of('i');
  const differs = `(${incoming}) is distinct from (${of('e')})${members ? ' or d.conversation_id is not null' : ''}`;
  const { rows: verdicts } = await sql<{ verdict: Verdict; known: number; ids: string[] | null }>`
    with incoming as (
      select * from ${recordset(entity, rows)}
    )${members ? membershipDiff(connectionId) : sql``},
    looked as (
      select i.${raw(key)} as id, i.${raw(version)} as version, e.${raw(key)} is not null as stored,
        (${raw(differs)}) as differs,
        (${numbering}::integer, i.${raw(version)}) > (e.numbering, e.${raw(version)}) as newer,
        (${numbering}::integer, i.${raw(version)}) = (e.numbering, e.${raw(version)}) as equal,
        -- a time ahead of the clock is none that this program wrote
        e.synced_at between ${asOf}::timestamptz and clock_timestamp() as written_since,
        coalesce(e.first_synced_at < ${storedBefore}::timestamptz, false)
          and ${entity === MESSAGE ? sql`coalesce(e.sent_at >= ${sentAfter}::timestamptz, ${sentAfter === null}::boolean)` : sql`true`} as known
      from incoming i
      left join lateral (
        -- one look-up in the key's index per row whatever the statistics say: see the upsert
        select * from ${sql.table(entity.table)} s
        where s.connection_id = (select ${connectionId}::text) and s.${raw(key)} = i.${raw(key)} limit 1
      ) e on true
      ${raw(members ? 'left join membership_diff d on d.conversation_id = i.conversation_id' : '')}
    ),
    judged as (
      select id, known, case
        when not stored then 'missing'
        when version < 0
          then case when not differs or written_since then 'same' else 'different' end
        when newer then 'older'
        when equal then case when differs then 'different' else 'same' end
        when written_since then 'same'
        when differs then 'conflicting' else 'ahead' end as verdict
      from looked
    )
    select verdict, count(*) filter (where known)::integer as known,
      case when verdict <> 'same' then array_agg(id) end as ids
    from judged group by verdict`.execute(db);
  const ids: Record<Exclude<Verdict, 'same'>, readonly string[]> = {
    missing: [],
    older: [],
    different: [],
    conflicting: [],
    ahead: [],
  };
  let known = 0;
  for (const row of verdicts) {
    known += row.known;
    if (row.verdict !== 'same') ids[row.verdict] = row.ids ?? [];
  }
  return { ids, known };
}

/**
 * What the database says just before a list is asked for; undefined where the connection is not known.
 * @param behind how far the list may be behind the stream of changes, in milliseconds.
 */
export async function readBefore(
  db: Db,
  connectionId: ConnectionId,
  behind: number,
): Promise<Pick<CompareTarget, 'numbering' | 'cursor' | 'asOf'> | undefined> {
  const { rows } = await sql<{ numbering: number; cursor: string; asOf: string }>`
    select numbering, cursor, (clock_timestamp() - ${`${behind}ms`}::interval)::text as "asOf"
    from ${sql.table('sync_state')} where connection_id = ${connectionId}`.execute(db);
  return rows[0];
}

/**
 * How many rows the connection has that count as known (see {@link CompareTarget}).
 * @param conversationId of messages: of this conversation.
 */
export async function countKnown(
  db: Db,
  entity: Entity,
  {
    connectionId,
    storedBefore,
    sentAfter,
  }: Pick<CompareTarget, 'connectionId' | 'storedBefore' | 'sentAfter'>,
  conversationId?: string,
): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from ${sql.table(entity.table)}
    where connection_id = ${connectionId} and first_synced_at < ${storedBefore}::timestamptz
      ${conversationId === undefined ? sql`` : sql`and conversation_id = ${conversationId}`}
      ${entity === MESSAGE && sentAfter !== null ? sql`and sent_at >= ${sentAfter}::timestamptz` : sql``}`.execute(
    db,
  );
  return rows[0]!.count;
}

/** The conversations of which messages are stored that were sent since a time of the database. */
export async function conversationsSince(
  db: Db,
  connectionId: ConnectionId,
  sentAfter: string,
): Promise<string[]> {
  const { rows } = await sql<{ conversation_id: string }>`
    select distinct conversation_id from ${sql.table('messages')}
    where connection_id = ${connectionId} and sent_at >= ${sentAfter}::timestamptz
      and conversation_id is not null`.execute(db);
  return rows.map((row) => row.conversation_id);
}

/**
 * The version that each of these rows has to be given so that it replaces the stored one, for records without a version
 * of their own: the cursor, or the stored row's version where that is higher. A stored version beyond the connection's
 * own cursor is none that replication wrote, and would keep out every later change: it is lowered to the cursor first.
 * The caller holds the lock of the state row.
 */
export async function replacingVersions(
  db: Db,
  entity: Entity,
  ids: readonly string[],
  { connectionId, numbering, cursor }: CompareTarget,
): Promise<ReadonlyMap<string, string>> {
  const { table, key, version } = entity;
  const raw = sql.raw;
  await sql`update ${sql.table(table)} t set ${raw(version)} = s.cursor
    from ${sql.table('sync_state')} s
    where s.connection_id = ${connectionId} and t.connection_id = ${connectionId}
      and t.${raw(key)} = any(${[...ids]}::text[]) and t.numbering = ${numbering}::integer
      and t.${raw(version)} > s.cursor`.execute(db);
  const { rows } = await sql<{ id: string; version: string }>`
    select ${raw(key)} as id, greatest(${raw(version)}, ${cursor}::bigint) as version from ${sql.table(table)}
    where connection_id = ${connectionId} and ${raw(key)} = any(${[...ids]}::text[])
      and numbering = ${numbering}::integer`.execute(db);
  return new Map(rows.map((row) => [row.id, row.version]));
}
