import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { isAmong, placeOf } from './places.ts';

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

/** For `judged`: what the stored row (`e`) holds of what is kept, so that it need not be looked up again. */
export function replacedColumns(): string {
  return [...KEPT, 'conversation_id', 'sent_at', 'first_synced_at']
    .map((c) => `e.${c} as old_${c}`)
    .join(', ');
}

/**
 * Common table expressions of the messages' upsert that keep every version it replaces: an overwritten text is
 * as lost after 30 days as a missing one. In the page's transaction, like the message itself (R1). A version held
 * from when the one before it was replaced, whatever receipts came meanwhile.
 */
export function revisionWrite({ connectionId, numbering, history }: Target): RawBuilder<unknown> {
  const redact = history.deletedMessages === 'redact';
  const kept = KEPT.map((column) =>
    redact && (column === 'body' || column === 'media')
      ? `case when j.deleted_at is null then j.old_${column} end`
      : `j.old_${column}`,
  );
  const compared = (prefix: string) => COMPARED.map((column) => `j.${prefix}${column}`).join(', ');
  const table = sql.table('message_revisions');
  const raw = sql.raw;
  return sql`,
    replaced as (
      insert into ${table} (connection_id, message_id, revision, ${raw(KEPT.join(', '))}, held_from, held_until)
      select ${connectionId}, j.message_id, coalesce(l.revision, 0) + 1,
        ${raw(kept.join(', '))}, coalesce(l.held_until, j.old_first_synced_at), now()
      from judged j
      left join lateral (select r.revision, r.held_until from ${table} r
        where r.connection_id = ${connectionId} and r.message_id = j.message_id
        order by r.revision desc limit 1) l on true
      where j.outcome in ('updated', 'amended')
        and (${raw(compared('old_'))}) is distinct from (${raw(compared(''))})
        -- a whole record that completes an older, partial one replaces nothing
        and (j.old_numbering, j.old_seq) <= (${numbering}::integer, j.seq)
        and (j.old_conversation_id is not null or j.old_sent_at is not null
          or j.old_body is not null or j.old_media is not null)
    )${
      redact
        ? sql`,
    redactable as materialized (
      select r.* from judged j cross join lateral (
        select ${raw(placeOf('s'))} from ${table} s
        where s.connection_id = (select ${connectionId}::text) and s.message_id = j.message_id
          and (s.body is not null or s.media is not null) offset 0
      ) r
      where j.outcome in ('updated', 'amended') and j.deleted_at is not null
    ),
    redacted as (
      update ${table} t set body = null, media = null where ${raw(isAmong('t', 'redactable'))}
    )`
        : sql``
    }`;
}
