import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { agoByBoth } from './clock.ts';
import type { Db } from './database.ts';
import type { Key } from './keys.ts';

/*
 * Messages that are older than RETAIN_MESSAGES. A message without a time of its own is as old as its row.
 */

const OWN_TIME = sql.raw('coalesce(received_at, first_synced_at)');

/** The connections that have anything to be pruned, removed ones too. @param retain milliseconds. */
export async function connectionsToPrune(db: Db, retain: number): Promise<ConnectionId[]> {
  const messages = sql.table('messages');
  const { rows } = await sql<{ connection_id: string }>`
    select s.connection_id from ${sql.table('sync_state')} s
    where (select min(m.sent_at) from ${messages} m where m.connection_id = s.connection_id) < ${agoByBoth(retain)}
      or exists (select from ${messages} m where m.connection_id = s.connection_id and m.sent_at is null
        and ${OWN_TIME} < ${agoByBoth(retain)})
      or exists (select from ${sql.table('quarantine')} q where ${expiredLetter(s, retain)})
    order by 1`.execute(db);
  return rows.map((row) => row.connection_id);
}

const s = sql.raw('s.connection_id');

/** A message that could not be stored is as old as when it was last seen. */
function expiredLetter(connection: ReturnType<typeof sql>, retain: number) {
  return sql`q.connection_id = ${connection} and q.kind = 'message' and q.last_seen_at < ${agoByBoth(retain)}`;
}

/**
 * Deletes a connection's oldest messages that are to go, with what hangs on them, and takes them from the counts. The
 * caller holds the lock of the state row.
 * @param most how many at a time.
 * @returns which.
 */
export async function pruneMessages(
  db: Db,
  connectionId: ConnectionId,
  retain: number,
  most: number,
): Promise<Key[]> {
  const { rows } = await sql<{ message_id: string }>`
    with doomed as (
      (select message_id from ${sql.table('messages')}
        where connection_id = ${connectionId} and sent_at < ${agoByBoth(retain)} order by sent_at limit ${most})
      union all
      (select message_id from ${sql.table('messages')}
        where connection_id = ${connectionId} and sent_at is null and ${OWN_TIME} < ${agoByBoth(retain)} limit ${most})
      limit ${most}
    ), gone as (
      delete from ${sql.table('messages')} m using doomed d
      where m.connection_id = ${connectionId} and m.message_id = d.message_id
      returning m.message_id, m.conversation_id, coalesce(m.is_from_me, m.direction = 'outgoing', false) as from_me
    ), revisions as (
      delete from ${sql.table('message_revisions')} r using gone g
      where r.connection_id = ${connectionId} and r.message_id = g.message_id
    ), reactions as (
      delete from ${sql.table('message_reactions')} r using gone g
      where r.connection_id = ${connectionId} and r.message_id = g.message_id
    ), totals as (
      update ${sql.table('sync_state')} set stored_messages = stored_messages - (select count(*) from gone)
      where connection_id = ${connectionId}
    ), chats as (
      select conversation_id, count(*) filter (where not from_me) as received, count(*) filter (where from_me) as sent
      from gone where conversation_id is not null group by conversation_id
    ), counts as (
      update ${sql.table('conversation_counts')} n
      set messages_in = n.messages_in - c.received, messages_out = n.messages_out - c.sent,
        first_message_at = (
          -- the first of the index that stays; the minimum would read the whole chat
          select m.sent_at from ${sql.table('messages')} m
          where m.connection_id = ${connectionId} and m.conversation_id = c.conversation_id
            and m.message_id <> all (array(select g.message_id from gone g))
          order by m.sent_at limit 1)
      from chats c where n.connection_id = ${connectionId} and n.conversation_id = c.conversation_id
    )
    select message_id from gone`.execute(db);
  return rows.map((row) => ({ connectionId, id: row.message_id }));
}

/** Deletes messages of the quarantine that are to go. @returns how many. */
export async function pruneLetters(db: Db, connectionId: ConnectionId, retain: number): Promise<number> {
  const result = await sql`delete from ${sql.table('quarantine')} q
    where ${expiredLetter(sql`${connectionId}`, retain)}`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
}
