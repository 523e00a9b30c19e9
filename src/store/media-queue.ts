import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { isAmong, placeOf } from './places.ts';

/*
 * How messages get into the queue of attachments (`media`): with the page that brings them, while MEDIA_STORE is on, and
 * by `queueMissed` of `media/missed.ts` for those that came while it was off.
 */

/** What has no file, of the types that are known. The upstream documents neither the types nor what `media` looks like,
 * so that anything else is asked for: a 404 is final, and costs one request. */
const WITHOUT_FILE = [
  'text',
  'reaction',
  'location',
  'live_location',
  'contact',
  'contacts',
  'poll',
  'system',
  'call',
];

/** SQL: whether a message carries an attachment. */
export function carriesMedia(m: string): string {
  const types = WITHOUT_FILE.map((type) => `'${type}'`).join(', ');
  return `(${m}.media not in ('{}', '[]', 'null', '""') or ${m}.content_type not in ('', ${types})) is true`;
}

/** SQL: where a message stands in the queue. */
export function queuedAt(m: string): string {
  return `coalesce(${m}.sent_at, ${m}.received_at, now())`;
}

/** Common table expressions of the messages' upsert: what carries an attachment is queued in the page's transaction. A
 * message whose attachment changes is fetched anew; receipts and other texts touch nothing.
 * @param redact whether a message that is deleted for everyone loses its attachment (DELETED_MESSAGES). */
export function mediaQueue(connectionId: ConnectionId, redact: boolean): RawBuilder<unknown> {
  const table = sql.table('media');
  const raw = sql.raw;
  return sql`,
    media_queued as (
      insert into ${table} (connection_id, message_id, sent_at)
      select ${connectionId}, j.message_id, ${raw(queuedAt('j'))} from judged j
      where j.outcome in ('inserted', 'updated', 'amended') and ${raw(carriesMedia('j'))}
        and (j.outcome = 'inserted'
          or (j.content_type, j.media) is distinct from (j.old_content_type, j.old_media))
        ${raw(redact ? 'and j.deleted_at is null' : '')}
      on conflict (connection_id, message_id) do update set state = 'pending', attempts = 0, next_try_at = now(),
        claimed_by = null, claimed_until = null, writing = null, error_kind = null, error = null
    )${
      redact
        ? sql`,
    media_deleted as materialized (
      select e.* from judged j cross join lateral (
        select ${raw(placeOf('s'))} from ${table} s
        where s.connection_id = (select ${connectionId}::text) and s.message_id = j.message_id limit 1
      ) e
      where j.outcome in ('inserted', 'updated', 'amended') and j.deleted_at is not null
    ),
    media_redacted as (
      delete from ${table} t where ${raw(isAmong('t', 'media_deleted'))}
    )`
        : sql``
    }`;
}

/** Where {@link findMissed} goes on: behind this message, to older ones. */
export interface MissedPosition {
  /** RFC 3339, to the microsecond. */
  readonly sentAt: string;
  readonly messageId: string;
}

/** Messages that one statement looks at. */
const LOOKED_AT = 5_000;

/**
 * Messages that carry an attachment and are not in the queue. Of the upstream's window alone: what is older is served no
 * more. Newest first, a part at a time.
 * @param window RETENTION_WINDOW, in milliseconds.
 * @returns their ids, and where to go on; undefined at the end.
 */
export async function findMissed(
  db: Db,
  connectionId: ConnectionId,
  window: number,
  redact: boolean,
  after: MissedPosition | undefined,
): Promise<{ missed: readonly string[]; next: MissedPosition | undefined }> {
  const { rows } = await sql<{
    missed: string[];
    looked: number;
    sent_at: string | null;
    message_id: string | null;
  }>`
    with batch as materialized (
      select message_id, sent_at, content_type, media, deleted_at from ${sql.table('messages')}
      where connection_id = ${connectionId} and sent_at > now() - ${window} * interval '1 millisecond'
        ${after === undefined ? sql`` : sql`and (sent_at, message_id) < (${after.sentAt}::timestamptz, ${after.messageId})`}
      order by sent_at desc, message_id desc limit ${LOOKED_AT}
    )
    select (
        select coalesce(array_agg(b.message_id), '{}') from batch b
        where ${isToBeQueued('b', redact)} and not exists (select from ${sql.table('media')} e
          where e.connection_id = ${connectionId} and e.message_id = b.message_id)
      ) as missed, (select count(*) from batch)::integer as looked,
      to_char(last.sent_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as sent_at, last.message_id
    from (select 1) one
    left join (select sent_at, message_id from batch order by sent_at, message_id limit 1) last on true`.execute(
    db,
  );
  const { missed, looked, sent_at: sentAt, message_id: messageId } = rows[0]!;
  const more = looked === LOOKED_AT && sentAt !== null && messageId !== null;
  return { missed, next: more ? { sentAt, messageId } : undefined };
}

/** Queues these messages, as far as they still carry an attachment and are not queued. The caller holds the lock of the
 * connection's state row.
 * @returns how many. */
export async function queueMessages(
  db: Db,
  connectionId: ConnectionId,
  messageIds: readonly string[],
  redact: boolean,
): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into ${sql.table('media')} (connection_id, message_id, sent_at)
    select m.connection_id, m.message_id, ${sql.raw(queuedAt('m'))} from ${sql.table('messages')} m
    where m.connection_id = ${connectionId} and m.message_id = any(${[...messageIds]}::text[])
      and ${isToBeQueued('m', redact)}
    on conflict (connection_id, message_id) do nothing`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

function isToBeQueued(m: string, redact: boolean): RawBuilder<unknown> {
  return sql.raw(`${carriesMedia(m)}${redact ? ` and ${m}.deleted_at is null` : ''}`);
}

/** Takes messages that were deleted for everyone out of the queue and the archive (DELETED_MESSAGES=redact), where that
 * happened while MEDIA_STORE was off. The sweep removes their files.
 * @returns how many. */
export async function redactMedia(db: Db, connectionId: ConnectionId): Promise<number> {
  const { rows } = await sql<{ n: number }>`
    with found as materialized (
      select t.message_id from ${sql.table('media')} t
      join ${sql.table('messages')} m on m.connection_id = t.connection_id and m.message_id = t.message_id
      where t.connection_id = ${connectionId} and m.deleted_at is not null
    ),
    locked as materialized (
      select connection_id from ${sql.table('sync_state')}
      where connection_id = ${connectionId} and exists (select from found) for update
    ),
    gone as (
      delete from ${sql.table('media')} t using locked l, found f
      where t.connection_id = l.connection_id and t.message_id = f.message_id
      returning t.message_id
    )
    select count(*)::integer as n from gone`.execute(db);
  return rows[0]!.n;
}
