import { sql } from 'kysely';
import { cutBytes } from '../lib/text.ts';
import { type ConnectionId, MAX_RECORD_ID_BYTES } from '../model.ts';
import type { Db } from './database.ts';
import type { Key } from './keys.ts';

/*
 * What has come of a message without the message itself. The caller holds the lock of the state row.
 */

/** Deletes entries of the quarantine that are of these messages. */
export async function deleteMessageLetters(
  db: Db,
  connectionId: ConnectionId,
  messageIds: readonly string[],
): Promise<void> {
  await sql`delete from ${sql.table('quarantine')} where connection_id = ${connectionId} and kind = 'message'
    and record_id = any(${messageIds.map((id) => cutBytes(id, MAX_RECORD_ID_BYTES))}::text[])`.execute(db);
}

/** Of these messages, those that partial records alone have made (R7); they are taken from the total. */
export async function partsOf(
  db: Db,
  connectionId: ConnectionId,
  messageIds: readonly string[],
): Promise<Key[]> {
  const { rows } = await sql<{ id: string }>`
    with parts as (
      select message_id as id from ${sql.table('messages')} where connection_id = ${connectionId}
        and message_id = any(${[...messageIds]}::text[]) and conversation_id is null and sent_at is null
    ), total as (
      update ${sql.table('sync_state')} set stored_messages = stored_messages - (select count(*) from parts)
      where connection_id = ${connectionId} and exists (select from parts)
    )
    select id from parts`.execute(db);
  return rows.map(({ id }) => ({ connectionId, id }));
}
