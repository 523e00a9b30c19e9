import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { type Extra, memberIs, type Scope, theirs } from './belongings.ts';
import type { Db } from './database.ts';
import { connectionsOf, idsOf, type Key, keySet } from './keys.ts';
import { removeMedia, unreferredAmong } from './media-files.ts';
import { isPersonId } from './person.ts';
import { ALL_CONNECTIONS } from './suppressions.ts';

/*
 * The statements of an erasure, within its one transaction. The caller holds the lock of the state rows.
 */

/** A row whose JSON is put in place of what is stored, as text. */
export interface Redacted extends Key {
  readonly reactions: string | null;
  readonly extra: string | null;
  readonly replyTo: string | null;
}

/** Deletes messages with what hangs on them: earlier versions and reactions. @returns how many versions. */
export async function deleteMessages(db: Db, messages: readonly Key[]): Promise<number> {
  const set = keySet(messages);
  // Of the chats that stay, such as groups, less is counted then.
  await sql`
    with gone as (
      delete from ${sql.table('messages')} m where (m.connection_id, m.message_id) in ${set}
      returning m.connection_id, m.conversation_id, coalesce(m.is_from_me, m.direction = 'outgoing', false) as from_me
    )
    update ${sql.table('conversation_counts')} n
    set messages_in = n.messages_in - g.received, messages_out = n.messages_out - g.sent
    from (
      select connection_id, conversation_id, count(*) filter (where not from_me) as received,
        count(*) filter (where from_me) as sent
      from gone group by connection_id, conversation_id
    ) g
    where n.connection_id = g.connection_id and n.conversation_id = g.conversation_id`.execute(db);
  await sql`delete from ${sql.table('message_reactions')} where (connection_id, message_id) in ${set}`.execute(
    db,
  );
  return await deleteRevisions(db, messages);
}

/** Deletes the earlier versions of messages. @returns how many. */
export async function deleteRevisions(db: Db, messages: readonly Key[]): Promise<number> {
  const result = await sql`delete from ${sql.table('message_revisions')}
    where (connection_id, message_id) in ${keySet(messages)}`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
}

/** Makes messages tombstones: without who sent them and what they said; when, and in reply to what, stays. */
export async function blankMessages(db: Db, messages: readonly Redacted[]): Promise<void> {
  await sql`
    update ${sql.table('messages')} m set sender_jid = null, sender_push_name = null, body = null, media = null,
      content_type = null, extra = null, reactions = r.reactions::jsonb, reply_to_wa_id = r.reply_to,
      erased_at = clock_timestamp(), synced_at = now()
    from unnest(${connectionsOf(messages)}, ${idsOf(messages)}, ${messages.map(({ reactions }) => reactions)}::text[],
      ${messages.map(({ replyTo }) => replyTo)}::text[]) as r (connection_id, message_id, reactions, reply_to)
    where m.connection_id = r.connection_id and m.message_id = r.message_id`.execute(db);
}

/** Takes mentions out of messages of others. */
export async function redactMessages(db: Db, messages: readonly Redacted[]): Promise<void> {
  await sql`
    update ${sql.table('messages')} m set reactions = r.reactions::jsonb, extra = r.extra::jsonb,
      reply_to_wa_id = r.reply_to, synced_at = now()
    from unnest(${connectionsOf(messages)}, ${idsOf(messages)}, ${messages.map(({ reactions }) => reactions)}::text[],
      ${messages.map(({ extra }) => extra)}::text[], ${messages.map(({ replyTo }) => replyTo)}::text[])
      as r (connection_id, message_id, reactions, extra, reply_to)
    where m.connection_id = r.connection_id and m.message_id = r.message_id`.execute(db);
}

/** Puts these in place of what the tables do not know of contacts, chats and members. */
export async function redactExtras(db: Db, extras: readonly Extra[]): Promise<void> {
  const places = {
    contact: sql`update ${sql.table('contacts')} t set extra = r.extra::jsonb, synced_at = now()`,
    conversation: sql`update ${sql.table('conversations')} t set extra = r.extra::jsonb, synced_at = now()`,
    participant: sql`update ${sql.table('conversation_participants')} t set extra = r.extra::jsonb`,
  };
  const keys = {
    contact: sql`t.person_id = r.id`,
    conversation: sql`t.conversation_id = r.id`,
    participant: sql`t.conversation_id = r.id and t.participant_jid = r.member`,
  };
  for (const kind of ['contact', 'conversation', 'participant'] as const) {
    const some = extras.filter((one) => one.kind === kind);
    if (some.length === 0) continue;
    await sql`${places[kind]}
      from unnest(${connectionsOf(some)}, ${idsOf(some)}, ${some.map(({ member }) => member)}::text[],
        ${some.map(({ extra }) => extra)}::text[]) as r (connection_id, id, member, extra)
      where t.connection_id = r.connection_id and ${keys[kind]}`.execute(db);
  }
}

/** Takes the attachments of messages out of the archive. @returns how many there were, and the files that nothing refers
 * to any more. */
export async function deleteAttachments(
  db: Db,
  messages: readonly Key[],
): Promise<{ readonly attachments: number; readonly files: string[] }> {
  const { rows } = await sql<Key>`
    select m.connection_id as "connectionId", m.message_id as id from ${sql.table('media')} m
    where (m.connection_id, m.message_id) in ${keySet(messages)}`.execute(db);
  const files = new Set<string>();
  for (const connectionId of new Set(rows.map((row) => row.connectionId))) {
    const here = rows.flatMap((row) => (row.connectionId === connectionId ? [row.id] : []));
    for (const file of await removeMedia(db, connectionId, here)) files.add(file);
  }
  // One that a message of another connection had too, which came later here.
  return { attachments: rows.length, files: await unreferredAmong(db, [...files]) };
}

/** Deletes direct chats, with their members and counts. */
export async function deleteChats(db: Db, chats: readonly Key[]): Promise<void> {
  const tables = [
    'conversations',
    'conversation_participants',
    'conversation_memberships',
    'conversation_counts',
  ] as const;
  for (const table of tables) {
    await sql`delete from ${sql.table(table)} where (connection_id, conversation_id) in ${keySet(chats)}`.execute(
      db,
    );
  }
}

/** Takes the person out of groups, those too that know them by an id alone, and have no JID of theirs. @returns the groups
 * that they were in at last. */
export async function leaveGroups(db: Db, scope: Scope): Promise<Key[]> {
  const { rows } = await sql<Key>`
    with gone as (
      delete from ${sql.table('conversation_participants')} p
      where p.connection_id = any(${[...scope.connections]}::text[]) and ${memberIs('p', scope)}
      returning p.connection_id, p.conversation_id, p.participant_jid
    ), intervals as (
      delete from ${sql.table('conversation_memberships')} s where ${theirs('s', 'participant_jid', scope)}
        or (s.connection_id, s.conversation_id, s.participant_jid) in (select * from gone)
    )
    select connection_id as "connectionId", conversation_id as id from gone`.execute(db);
  return rows;
}

/** Deletes the person's reactions to messages of others. */
export async function deleteReactions(db: Db, scope: Scope): Promise<number> {
  const result = await sql`delete from ${sql.table('message_reactions')} r
    where ${theirs('r', 'reactor_jid', scope)}`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
}

/** Deletes contacts, and who is behind which JID. */
export async function deleteContacts(db: Db, scope: Scope, contacts: readonly Key[]): Promise<void> {
  await sql`delete from ${sql.table('contacts')} where (connection_id, person_id) in ${keySet(contacts)}`.execute(
    db,
  );
  await sql`delete from ${sql.table('jids')} j where ${theirs('j', 'jid', scope)}
    or (j.connection_id = any(${[...scope.connections]}::text[])
      and ${isPersonId('j.connection_id', 'j.person_id', scope.person)})`.execute(db);
}

/** Deletes entries of the quarantine. */
export async function deleteLetters(db: Db, letters: readonly string[]): Promise<void> {
  await sql`delete from ${sql.table('quarantine')} where quarantine_id = any(${[...letters]}::bigint[])`.execute(
    db,
  );
}

/** Puts other JSON into an entry of the quarantine; where there is an open one like it, the entry is deleted. */
export async function redactLetter(db: Db, id: string, json: string, sha256: string): Promise<void> {
  const table = sql.table('quarantine');
  await sql`
    with twin as (
      select from ${table} q join ${table} o on o.connection_id = q.connection_id and o.kind = q.kind
        and o.conversation_id is not distinct from q.conversation_id
      where q.quarantine_id = ${id}::bigint and o.quarantine_id <> q.quarantine_id and o.record_sha256 = ${sha256}
        and o.resolved_at is null
    ), gone as (
      delete from ${table} where quarantine_id = ${id}::bigint and exists (select from twin)
    )
    update ${table} set record_json = ${json}, record_bytes = null, record_sha256 = ${sha256}
    where quarantine_id = ${id}::bigint and not exists (select from twin)`.execute(db);
}

/** Verifications that were interrupted in a chat that is gone, or at a message, begin anew. */
export async function forgetPositions(
  db: Db,
  chats: readonly Key[],
  messages: readonly Key[],
): Promise<void> {
  await sql`update ${sql.table('verifications')} set position = null
    where (connection_id, position ->> 'conversation') in ${keySet(chats)}
      or (connection_id, position ->> 'before') in ${keySet(messages)}`.execute(db);
}

/** What is taken from the totals of a connection, and that something was erased there. */
export async function noteInState(
  db: Db,
  all: readonly ConnectionId[],
  fingerprint: string,
  gone: Readonly<Record<'conversations' | 'contacts' | 'messages', readonly Key[]>>,
): Promise<void> {
  const count = (keys: readonly Key[]) =>
    sql`(select count(*) from unnest(${connectionsOf(keys)}) as k (id) where k.id = s.connection_id)`;
  await sql`update ${sql.table('sync_state')} s set suppressed_by = ${fingerprint},
      stored_conversations = stored_conversations - ${count(gone.conversations)},
      stored_contacts = stored_contacts - ${count(gone.contacts)},
      stored_messages = stored_messages - ${count(gone.messages)}
    where connection_id = any(${[...all]}::text[])`.execute(db);
}

/** Keeps the receipt. @param connectionId undefined: all connections. @returns its number and the erasure's time. */
export async function addErasure(
  db: Db,
  connectionId: ConnectionId | undefined,
  fingerprint: string,
  forever: boolean,
  counts: object,
): Promise<{ readonly id: string; readonly erasedAt: Date }> {
  const { rows } = await sql<{ id: string; erasedAt: Date }>`
    insert into ${sql.table('erasures')} (connection_id, forever, key_fingerprint, counts)
    values (${connectionId ?? ALL_CONNECTIONS}, ${forever}::boolean, ${fingerprint}, ${JSON.stringify(counts)}::jsonb)
    returning erasure_id as id, erased_at as "erasedAt"`.execute(db);
  return rows[0]!;
}
