import { type RawBuilder, sql } from 'kysely';
import { CONTACT, CONVERSATION, type Entity, MESSAGE } from '../entities.ts';
import { type ConnectionId, emptyTally, type Outcome, type Row, type Tally } from '../model.ts';
import { changeColumns, changeWrite, recordChanges } from './changes.ts';
import type { Db } from './database.ts';
import { contentColumns, merged } from './entity-columns.ts';
import { jidsOfContacts, jidsOfConversations, STORED_OTHER_SIDE } from './jids.ts';
import { mediaQueue } from './media-queue.ts';
import { membershipIntervals } from './memberships.ts';
import { messageCounts, STORED_COUNTED } from './message-counts.ts';
import { MEMBERSHIP_CHANGES, membershipDiff, membershipWrites } from './participants.ts';
import { REACTION_CHANGES, reactionWrites, STORED_REACTIONS } from './reactions.ts';
import { type EncodedRows, recordset } from './recordset.ts';
import { type History, replacedColumns, revisionWrite } from './revisions.ts';

/** Where and as what a batch is written. */
export interface UpsertTarget {
  readonly connectionId: ConnectionId;
  readonly numbering: number;
  readonly history: History;
  /** Whether the change feed is told (CHANGES). */
  readonly changes: boolean;
  /** Whether attachments are queued (MEDIA_STORE). */
  readonly media?: boolean;
}

/**
 * Writes rows of one kind, each id once, in one statement, by "newest wins" (R2). Rows that are identical to
 * what is stored, or older, are found by the join before the write and are not touched at all: a refused
 * `on conflict` would still lock the row and dirty its page, and make WAL for nothing.
 * The caller holds the lock of the connection's state row, so that nobody else writes between join and write.
 * @param partial the rows' fields are merged into the stored ones; null never replaces (R7).
 */
export async function upsert(
  db: Db,
  entity: Entity,
  rows: readonly Row[] | EncodedRows,
  target: UpsertTarget,
  partial = false,
): Promise<Tally> {
  const counts = await statement(entity, rows, target, partial).execute(db);
  const tally = emptyTally();
  for (const { outcome, count } of counts.rows) tally[outcome] = count;
  return tally;
}

function statement(
  entity: Entity,
  rows: readonly Row[] | EncodedRows,
  target: UpsertTarget,
  partial: boolean,
): RawBuilder<{ outcome: Outcome; count: number }> {
  const { key, version } = entity;
  const content = contentColumns(entity);
  const stored = sql.table(entity.table);
  const { connectionId, numbering, history, changes } = target;
  const raw = sql.raw;
  const list = (columns: readonly string[], alias: string) => columns.map((c) => `${alias}.${c}`).join(', ');
  const members = entity === CONVERSATION;
  const revisions = entity === MESSAGE && history.on;
  const columns = [key, ...content, version];
  const judgedAs = (outcomes: string) => sql`
      select ${connectionId}, ${raw(list(columns, 'j'))}, ${numbering}::integer
      from judged j where j.outcome in (${raw(outcomes)})`;
  const written = raw(`connection_id, ${columns.join(', ')}, numbering`);
  return sql`
    with incoming as (
      select * from ${recordset(entity, rows)}
    )${members ? membershipDiff(connectionId) : sql``},
    judged as materialized (
      -- The outcome first: whoever reads only some of the rows takes no more columns of the others apart than this one.
      select ${raw(verdict(entity, partial))} as outcome,
        i.${raw(key)}, ${raw(incomingContent(content, partial))}, i.${raw(version)}
        ${raw(changes ? `, ${changedAs(entity, content, partial)}` : '')}${raw(storedColumns(entity))}
      from (select *, ${numbering}::integer as numbering from incoming) i
      left join lateral (
        -- One look-up in the key's index per row whatever the statistics say, which are old when a backlog comes in: a
        -- limit keeps the planner from reading all of the connection for one join, the sub-select from taking it for
        -- an empty one.
        select * from ${stored} s
        where s.connection_id = (select ${connectionId}::text) and s.${raw(key)} = i.${raw(key)} limit 1
      ) e on true
      ${raw(members ? 'left join membership_diff d on d.conversation_id = i.conversation_id' : '')}
    )${revisions ? revisionWrite(target) : sql``}${members ? membershipWrites(connectionId) : sql``}${derived(entity, target)}${
      changes ? changeWrite(connectionId, toldOf(entity)) : sql``
    },
    added as (
      insert into ${stored} (${written})${judgedAs("'inserted'")}
    ),
    changed as (
      insert into ${stored} as t (${written})${judgedAs("'updated', 'amended'")}
      on conflict (connection_id, ${raw(key)}) do update set ${raw(assignments(entity, content))}
    )
    select outcome, count(*)::integer as count from judged group by outcome`;
}

/** What `judged` takes along for what is written beside the rows: the stored row's is not looked up again. */
function storedColumns(entity: Entity): string {
  if (entity === MESSAGE) return `, ${replacedColumns()}, ${STORED_COUNTED}, ${STORED_REACTIONS}`;
  return entity === CONVERSATION ? `, i.participants, ${STORED_OTHER_SIDE}` : '';
}

/** What follows from the rows that are written: identities, counts, reactions, intervals. */
function derived(
  entity: Entity,
  { connectionId, numbering, history, media }: UpsertTarget,
): RawBuilder<unknown> {
  if (entity === CONTACT) return jidsOfContacts(connectionId);
  if (entity === CONVERSATION) {
    return sql`${jidsOfConversations(connectionId)}${membershipIntervals(connectionId)}`;
  }
  const queue = media ? mediaQueue(connectionId, history.deletedMessages === 'redact') : sql``;
  return sql`${messageCounts(connectionId, numbering)}${reactionWrites(connectionId, numbering)}${queue}`;
}

/** A partial row takes what it does not tell from the stored row, so that it is compared and written whole. */
function incomingContent(content: readonly string[], partial: boolean): string {
  return content.map((column) => (partial ? `${merged(column)} as ${column}` : `i.${column}`)).join(', ');
}

function changedAs(entity: Entity, content: readonly string[], partial: boolean): string {
  const incoming = (column: string) => (partial ? merged(column) : `i.${column}`);
  const membership = entity === CONVERSATION ? 'd.conversation_id is not null' : undefined;
  return changeColumns(entity, content, incoming, membership);
}

/** What the statement writes that the change feed tells of. */
function toldOf(entity: Entity): RawBuilder<unknown>[] {
  const records = recordChanges(entity);
  if (entity === MESSAGE) return [records, REACTION_CHANGES];
  return entity === CONVERSATION ? [records, MEMBERSHIP_CHANGES] : [records];
}

/**
 * The outcome of a row against what is stored (R2). A contact has no version of its own, so that an identical
 * one is unchanged whatever its version. A stored message that only partial records made is completed by a
 * whole one even if that is older, since the partial ones only added to it.
 */
function verdict(entity: Entity, partial: boolean): string {
  const { key, version } = entity;
  const incoming = contentColumns(entity).map((column) => (partial ? merged(column) : `i.${column}`));
  const differs = `(${incoming.join(', ')}) is distinct from (${contentColumns(entity)
    .map((c) => `e.${c}`)
    .join(', ')})`;
  const different = entity === CONVERSATION ? `(${differs} or d.conversation_id is not null)` : differs;
  const newer = `(i.numbering, i.${version}) > (e.numbering, e.${version})`;
  const same = `(i.numbering, i.${version}) = (e.numbering, e.${version})`;
  const completes = 'e.conversation_id is null and e.sent_at is null';
  return `case
    when e.${key} is null then 'inserted'
    ${version === 'version' ? `when not ${different} then 'unchanged'` : ''}
    when ${newer} then 'updated'
    when ${same} then case when ${different} then 'amended' else 'unchanged' end
    ${entity === MESSAGE && !partial ? `when ${completes} then 'updated'` : ''}
    else 'stale' end`;
}

/** What a conflict sets. Only the completing of a partial message (see {@link verdict}) meets a newer row. */
function assignments(entity: Entity, content: readonly string[]): string {
  const version = `(t.numbering, t.${entity.version})`;
  const older = `(excluded.numbering, excluded.${entity.version}) < ${version}`;
  const completed = (column: string) =>
    column === 'extra'
      ? 'coalesce(excluded.extra || t.extra, t.extra, excluded.extra)'
      : `coalesce(t.${column}, excluded.${column})`;
  const set = content.map((column) =>
    entity === MESSAGE
      ? `${column} = case when ${older} then ${completed(column)} else excluded.${column} end`
      : `${column} = excluded.${column}`,
  );
  const kept = (column: string) =>
    `${column} = case when ${older} then t.${column} else excluded.${column} end`;
  return [...set, kept(entity.version), kept('numbering'), 'synced_at = now()'].join(', ');
}
