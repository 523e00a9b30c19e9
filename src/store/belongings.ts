import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { isPersonal } from './jids.ts';
import { type Key, keySet } from './keys.ts';
import { isPersonId, jidOf, type Person } from './person.ts';

/*
 * What the tables have of a person. Statements of whole tables: an erasure is rare, and nothing may be left behind
 * because an index does not know it. Where JSON has no fixed shape they find what may be meant, and the caller decides.
 */

/** Whose rows: a person's, on these connections. */
export interface Scope {
  readonly person: Person;
  readonly connections: readonly ConnectionId[];
}

const is = (columns: string, { person }: Scope) =>
  sql`${sql.raw(columns)} = any(${[...person.jids]}::text[])`;

const on = (table: string, { connections }: Scope) =>
  sql`${sql.raw(table)}.connection_id = any(${[...connections]}::text[])`;

/** A pattern of Postgres for the person's numbers and ids, as words of their own; as `jsonb` writes them, too. */
export function patternOf({ jids, ids }: Person): string {
  const words = [...jids].map((jid) => jid.split('@')[0]!).concat(ids.map(({ personId }) => personId));
  const forms = words.flatMap((word) => [word, JSON.stringify(word).slice(1, -1)]);
  const escaped = [...new Set(forms)].map((word) => word.replace(/[^0-9A-Za-z]/gu, '\\$&'));
  return `(^|[^0-9A-Za-z])(${escaped.join('|')})([^0-9A-Za-z]|$)`;
}

/** SQL: whether JSON as text may name the person; numbers are known as people write them, too: "+49 151 00000001". */
function mayName(json: string, { person }: Scope): RawBuilder<unknown> {
  const text = sql.raw(json);
  const pattern = patternOf(person);
  return sql`coalesce(${text} ~ ${pattern}
    or (${text} like '%"+%' and translate(${text}, ' ().-', '') ~ ${pattern}), false)`;
}

export async function contactsOf(db: Db, scope: Scope): Promise<Key[]> {
  const { rows } = await sql<Key>`
    select c.connection_id as "connectionId", c.person_id as id from ${sql.table('contacts')} c
    where ${on('c', scope)} and (${isPersonId('c.connection_id', 'c.person_id', scope.person)}
      or ${is(jidOf('c.phone_jid'), scope)} or ${is(jidOf('c.lid_jid'), scope)})`.execute(db);
  return rows;
}

/** Direct chats; those too that have another JID, of which nobody has told that it is theirs, than a message in them. */
export async function chatsOf(db: Db, scope: Scope): Promise<Key[]> {
  const { rows } = await sql<Key>`
    select v.connection_id as "connectionId", v.conversation_id as id from ${sql.table('conversations')} v
    where ${on('v', scope)} and v.kind is distinct from 'group'
      and (${is(jidOf('v.chat_jid'), scope)} or ${isPersonId('v.connection_id', 'v.direct_person_id', scope.person)}
        or (${sql.raw(isPersonal('v.chat_jid'))} is not false and (v.connection_id, v.conversation_id) in (
          select m.connection_id, m.conversation_id from ${sql.table('messages')} m
          where ${on('m', scope)} and ${is(jidOf('m.chat_jid'), scope)})))`.execute(db);
  return rows;
}

/** A message that is the person's, or may mention them. JSON as text, with every digit. */
export interface MessageFound extends Key {
  readonly conversationId: string | null;
  /** In a direct chat with them. */
  readonly direct: boolean;
  /** The chat is stored, too. */
  readonly chatKnown: boolean;
  readonly theirs: boolean;
  /** The ids of the record hold a number or an id of theirs. */
  readonly named: boolean;
  /** Of what is not in a direct chat. */
  readonly reactions: string | null;
  readonly extra: string | null;
  /** The id of the message that it answers, likewise. */
  readonly replyTo: string | null;
}

/** @param chats their direct chats. */
export async function messagesOf(db: Db, scope: Scope, chats: readonly Key[]): Promise<MessageFound[]> {
  const pattern = patternOf(scope.person);
  const { rows } = await sql<MessageFound>`
    select connection_id as "connectionId", message_id as id, conversation_id as "conversationId", direct,
      exists (select from ${sql.table('conversations')} v where v.connection_id = m.connection_id
        and v.conversation_id = m.conversation_id) as "chatKnown", theirs, concat_ws(' ', message_id, wa_message_id) ~ ${pattern} as named,
      case when not direct then reactions::text end as reactions, case when not direct then extra::text end as extra,
      case when not direct then reply_to_wa_id end as "replyTo"
    from (
      select m.connection_id, m.message_id, m.conversation_id, m.wa_message_id, m.reactions, m.extra, m.reply_to_wa_id,
        coalesce(${is(jidOf('m.chat_jid'), scope)}, false)
          or coalesce((m.connection_id, m.conversation_id) in ${keySet(chats)}, false) as direct,
        coalesce(${is(jidOf('m.sender_jid'), scope)}, false) as theirs,
        ${mayName('m.reactions::text', scope)} or ${mayName('m.extra::text', scope)}
          or coalesce(m.reply_to_wa_id ~ ${pattern}, false) as mentions
      from ${sql.table('messages')} m where ${on('m', scope)}
    ) m
    where direct or theirs or mentions`.execute(db);
  return rows;
}

/** What the tables do not know of somebody else's contact, a chat or a member of one. */
export interface Extra extends Key {
  readonly kind: 'contact' | 'conversation' | 'participant';
  /** Of a participant, whose id is the chat's: the JID. */
  readonly member: string | null;
  /** JSON as text. */
  readonly extra: string | null;
}

/** Those that may mention them. @param contacts theirs. @param chats their direct ones. */
export async function extrasNaming(
  db: Db,
  scope: Scope,
  contacts: readonly Key[],
  chats: readonly Key[],
): Promise<Extra[]> {
  const { rows } = await sql<Extra>`
    select 'contact' as kind, c.connection_id as "connectionId", c.person_id as id, null as member,
      c.extra::text as extra
    from ${sql.table('contacts')} c
    where ${on('c', scope)} and ${mayName('c.extra::text', scope)}
      and (c.connection_id, c.person_id) not in ${keySet(contacts)}
    union all
    select 'conversation', v.connection_id, v.conversation_id, null, v.extra::text
    from ${sql.table('conversations')} v
    where ${on('v', scope)} and ${mayName('v.extra::text', scope)}
      and (v.connection_id, v.conversation_id) not in ${keySet(chats)}
    union all
    select 'participant', p.connection_id, p.conversation_id, p.participant_jid, p.extra::text
    from ${sql.table('conversation_participants')} p
    where ${on('p', scope)} and ${mayName('p.extra::text', scope)} and not coalesce(${memberIs('p', scope)}, false)
      and (p.connection_id, p.conversation_id) not in ${keySet(chats)}`.execute(db);
  return rows;
}

/** A record as it is at a moment: of a message when it was sent, of a chat its last message's. */
export interface Snapshot extends Key {
  /** Milliseconds since 1970, cut. */
  readonly at: number;
}

/** Of these records, those that are dated ahead of the database's clock. */
export async function datedAhead(
  db: Db,
  messages: readonly Key[],
  conversations: readonly Key[],
): Promise<Snapshot[]> {
  const { rows } = await sql<Snapshot>`
    select connection_id as "connectionId", id, floor(extract(epoch from at) * 1000)::float8 as at
    from (
      select connection_id, message_id as id, coalesce(sent_at, received_at) as at from ${sql.table('messages')}
      where (connection_id, message_id) in ${keySet(messages)}
      union all
      select connection_id, conversation_id, last_message_at from ${sql.table('conversations')}
      where (connection_id, conversation_id) in ${keySet(conversations)}
    ) dated
    where at > clock_timestamp()`.execute(db);
  return rows;
}

/** An entry of the quarantine that may be theirs or mention them. */
export interface LetterFound {
  readonly id: string;
  readonly connectionId: ConnectionId;
  readonly kind: string;
  readonly recordId: string | null;
  /** Of a participant. */
  readonly conversationId: string | null;
  readonly json: string;
  readonly bytes: Buffer | null;
}

/** @param records messages and chats that are removed, by their ids. */
export async function lettersOf(db: Db, scope: Scope, records: readonly Key[]): Promise<LetterFound[]> {
  const { rows } = await sql<LetterFound>`
    select q.quarantine_id as id, q.connection_id as "connectionId", q.kind, q.record_id as "recordId",
      q.conversation_id as "conversationId", q.record_json as json, q.record_bytes as bytes
    from ${sql.table('quarantine')} q
    where ${on('q', scope)} and (${mayName('q.record_json', scope)}
      -- any character may stand in it as an escape
      or q.record_json like '%\\\\u%' or q.record_bytes is not null
      or (q.connection_id, q.record_id) in ${keySet(records)}
      or (q.connection_id, q.conversation_id) in ${keySet(records)})`.execute(db);
  return rows;
}

/** Memberships in groups, and reactions to messages that stay: how many.
 * @param chats the direct ones. @param removed messages that go. */
export async function countBeside(
  db: Db,
  scope: Scope,
  chats: readonly Key[],
  removed: readonly Key[],
): Promise<{ readonly memberships: number; readonly reactions: number }> {
  const { rows } = await sql<{ memberships: number; reactions: number }>`
    select
      (select count(*)::integer from ${sql.table('conversation_participants')} p
        where ${on('p', scope)} and ${memberIs('p', scope)}
          and (p.connection_id, p.conversation_id) not in ${keySet(chats)}) as memberships,
      (select count(*)::integer from ${sql.table('message_reactions')} r
        where ${on('r', scope)} and ${is(jidOf('r.reactor_jid'), scope)}
          and (r.connection_id, r.message_id) not in ${keySet(removed)}) as reactions`.execute(db);
  return rows[0]!;
}

/** How much goes with messages, and how many links of the CRM with numbers (E.164). */
export async function countAlong(
  db: Db,
  messages: readonly Key[],
  phones: readonly string[],
): Promise<{ readonly revisions: number; readonly attachments: number; readonly links: number }> {
  const { rows } = await sql<{ revisions: number; attachments: number; links: number }>`
    select
      (select count(*)::integer from ${sql.table('message_revisions')}
        where (connection_id, message_id) in ${keySet(messages)}) as revisions,
      (select count(*)::integer from ${sql.table('media')}
        where (connection_id, message_id) in ${keySet(messages)}) as attachments,
      (select count(*)::integer from ${sql.table('crm_links')}
        where phone_e164 = any(${[...phones]}::text[])) as links`.execute(db);
  return rows[0]!;
}

/** SQL: whether a participant `p` is the person. */
export function memberIs(p: string, scope: Scope): RawBuilder<unknown> {
  return sql`(${is(jidOf(`${p}.participant_jid`), scope)}
    or ${isPersonId(`${p}.connection_id`, `${p}.person_id`, scope.person)})`;
}

/** SQL: whether a JID in a column is the person's, on one of the connections. */
export function theirs(table: string, column: string, scope: Scope): RawBuilder<unknown> {
  return sql`(${on(table, scope)} and ${is(jidOf(`${table}.${column}`), scope)})`;
}
