import { type Kysely, sql } from 'kysely';

const raw = sql.raw;

/* Expressions that the program has too, in `src/store/jids.ts`. */
const hasDevice = (jid: string) => `${jid} like '%:%@%'`;
const accountOf = (jid: string) => `regexp_replace(${jid}, ':[0-9]+@', '@')`;
const phoneOf = (jid: string) =>
  `case when ${jid} ~ '^[1-9][0-9]{4,14}(:[0-9]+)?@s\\.whatsapp\\.net$'
    then '+' || split_part(split_part(${jid}, '@', 1), ':', 1) end`;

/**
 * A JID that names a device is whose account it is of, and the last message of a chat is the first of its feed, also
 * where several are of one second.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Pages in flight are waited for, so that none adds a device that is not seen here.
  await sql`lock table sync_state in exclusive mode`.execute(db);
  await sql`
    update jids d set person_id = coalesce(a.person_id, d.person_id),
      phone_e164 = coalesce(a.phone_e164, d.phone_e164, ${raw(phoneOf('d.jid'))})
    from jids o left join jids a on a.connection_id = o.connection_id and a.jid = ${raw(accountOf('o.jid'))}
    where ${raw(hasDevice('o.jid'))} and o.person_id is null
      and d.connection_id = o.connection_id and d.jid = o.jid;
    create index jids_by_account on jids (connection_id, (${raw(accountOf('jid'))})) where ${raw(hasDevice('jid'))};
  `.execute(db);
  await orderLastMessages(db);
}

const keyOf = (j: string) =>
  `coalesce(${j}phone_e164, ${j}connection_id || ' ' || coalesce(${j}person_id, ${j}jid))`;

/** The name of a person in one connection. */
const nameIn = (connection: string, person: string) => `(select coalesce(nullif(c.display_name, ''),
    nullif(trim(concat_ws(' ', c.first_name, c.last_name)), ''), nullif(c.whatsapp_push_name, '')) from contacts c
    where c.connection_id = ${connection} and c.person_id = ${person})`;

/** The title of a conversation `v`. */
const TITLE = `case when v.kind = 'direct' then coalesce(
      (select coalesce(${nameIn('v.connection_id', 'coalesce(d.person_id, v.direct_person_id)')}, d.phone_e164)
        from jids d where d.connection_id = v.connection_id and d.jid = v.chat_jid),
      ${nameIn('v.connection_id', 'v.direct_person_id')}, v.chat_jid)
    else coalesce(nullif(v.subject, ''), v.chat_jid) end`;

/** Of the last message of a conversation `v`. */
const last = (what: string) => `(select ${what} from messages m
        where m.connection_id = v.connection_id and m.conversation_id = v.conversation_id
          and m.sent_at is not null order by m.sent_at desc, m.message_id desc limit 1)`;

/** Of the counts of a conversation `v`. */
const count = (what: string) => `coalesce((select ${what} from conversation_counts n
        where n.connection_id = v.connection_id and n.conversation_id = v.conversation_id), 0)`;

/** The view as `0003_people` made it, but for the order of messages of one second. Written out: what Postgres would print
 * of it depends on its version and settings. */
async function orderLastMessages(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace view conversation_list as
    select v.connection_id, v.conversation_id, v.kind, ${raw(TITLE)} as title, v.chat_jid,
      coalesce(k.person_id, v.direct_person_id) as person_id,
      k.phone_e164 as person_e164,
      case when v.kind = 'direct' then ${raw(keyOf('k.'))} end as person_key,
      v.is_archived, v.last_message_at,
      ${raw(last('m.message_id'))} as last_message_id,
      ${raw(last('m.body'))} as last_message_body,
      ${raw(last('m.content_type'))} as last_message_type,
      ${raw(last("coalesce(m.is_from_me, m.direction = 'outgoing')"))} as last_message_is_from_me,
      ${raw(count('n.messages_in + n.messages_out'))} as messages,
      ${raw(count('n.messages_in'))} as messages_in,
      ${raw(count('n.messages_out'))} as messages_out,
      (select count(*) from conversation_participants p
        where p.connection_id = v.connection_id and p.conversation_id = v.conversation_id) as participants
    from conversations v
    left join jids k on k.connection_id = v.connection_id and k.jid = v.chat_jid;
  `.execute(db);
}
