import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';

/** What `message_revisions` keeps: `redact` blanks what a deletion for everyone replaced (DELETED_MESSAGES). */
export interface History {
  readonly on: boolean;
  readonly deletedMessages: 'keep' | 'redact';
}

interface Target {
  readonly connectionId: ConnectionId;
  readonly numbering: number;
  readonly history: History;
}

/** What makes a replaced version worth keeping; receipts and reactions alone do not. */
const COMPARED = ['content_type', 'body', 'media', 'deleted_at'];
const KEPT = ['content_type', 'body', 'media', 'edited_at', 'deleted_at', 'seq', 'numbering'];

/**
 * Common table expressions of the messages' upsert that keep every version it replaces: an overwritten text is
 * as lost after 30 days as a missing one. In the page's transaction, like the message itself (R1). A version held
 * from when the one before it was replaced, whatever receipts came meanwhile.
 */
export function revisionWrite({ connectionId, numbering, history }: Target): RawBuilder<unknown> {
  if (!history.on) return sql``;
  const redact = history.deletedMessages === 'redact';
  const of = (alias: string, columns: readonly string[]) => columns.map((c) => `${alias}.${c}`).join(', ');
  const kept = KEPT.map((column) =>
    redact && (column === 'body' || column === 'media')
      ? `case when j.deleted_at is null then e.${column} end`
      : `e.${column}`,
  );
  const table = sql.table('message_revisions');
  const raw = sql.raw;
  return sql`,
    replaced as (
      insert into ${table} (connection_id, message_id, revision, ${raw(KEPT.join(', '))}, held_from, held_until)
      select e.connection_id, e.message_id, coalesce(l.revision, 0) + 1,
        ${raw(kept.join(', '))}, coalesce(l.held_until, e.first_synced_at), now()
      from judged j
      join ${sql.table('messages')} e on e.connection_id = (select ${connectionId}::text) and e.message_id = j.message_id
      left join lateral (select r.revision, r.held_until from ${table} r
        where r.connection_id = e.connection_id and r.message_id = e.message_id
        order by r.revision desc limit 1) l on true
      where j.outcome in ('updated', 'amended')
        and (${raw(of('e', COMPARED))}) is distinct from (${raw(of('j', COMPARED))})
        -- a whole record that completes an older, partial one replaces nothing
        and (e.numbering, e.seq) <= (${numbering}::integer, j.seq)
        and (e.conversation_id is not null or e.sent_at is not null or e.body is not null or e.media is not null)
    )${
      redact
        ? sql`,
    redacted as (
      update ${table} r set body = null, media = null
      from judged j
      where r.connection_id = (select ${connectionId}::text) and r.message_id = j.message_id
        and j.outcome in ('updated', 'amended') and j.deleted_at is not null
        and (r.body is not null or r.media is not null)
    )`
        : sql``
    }`;
}
