import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { isOf } from './places.ts';

/*
 * `jids`: who is behind a JID, as contacts, participants and direct chats tell it, in the page's transaction (R1). What
 * was written last counts. All JIDs of a person have the same `phone_e164`, so that what is learned late about one
 * mends every message of the others when it is read. Common table expressions of the upserts; the conversations' ones
 * build on those of `participants.ts`.
 */

/** Longest JID that is followed, in bytes: what is longer is no JID, and might not fit into an index. */
export const MAX_JID_BYTES = 1024;

/** SQL: the E.164 of a phone JID, with a device or without; null of any other. The digits of a LID are no phone number. */
export function phoneOf(jid: string): string {
  // What `like` refuses is not put to the regular expression, which takes ten times as long.
  return `case when ${jid} like '%@s.whatsapp.net' and ${jid} ~ '^[1-9][0-9]{4,14}(:[0-9]+)?@s\\.whatsapp\\.net$'
    then '+' || split_part(split_part(${jid}, '@', 1), ':', 1) end`;
}

/** SQL: whether a JID names a device of its account, as WhatsApp has it: `4915112345678:4@s.whatsapp.net`. The index
 * `jids_by_account` is of these alone. */
export function hasDevice(jid: string): string {
  return `${jid} like '%:%@%'`;
}

/** SQL: the JID of a device's account. */
export function accountOf(jid: string): string {
  return `regexp_replace(${jid}, ':[0-9]+@', '@')`;
}

/** SQL: whether a JID may be a person's, not a group's or a list's. */
export function isPersonal(jid: string): string {
  const others = ['g.us', 'broadcast', 'newsletter'].map((server) => `and ${jid} not like '%@${server}'`);
  return `(${jid} like '%_@_%' ${others.join(' ')} and octet_length(${jid}) <= ${MAX_JID_BYTES})`;
}

/** SQL: the E.164 that a contact has, by its own word or by its phone JID; never the digits of its LID. */
function phoneOfContact(c: string): string {
  return `coalesce(
        case when ${c}.phone_e164 ~ '^\\+?[1-9][0-9]{4,14}$'
            and ltrim(${c}.phone_e164, '+') is distinct from split_part(${c}.lid_jid, '@', 1)
          then '+' || ltrim(${c}.phone_e164, '+') end,
        ${phoneOf(`${c}.phone_jid`)})`;
}

/** Of the contacts that are written: both of their JIDs, and the phone JID that their number implies. */
export function jidsOfContacts(connectionId: ConnectionId): RawBuilder<unknown> {
  return sql`,
    jid_facts as materialized (
      select distinct on (f.jid) f.jid, j.person_id, p.phone as contact_phone,
        ${sql.raw(phoneOf('f.jid'))} as own_phone, null::timestamptz as last_message_at
      from judged j
      cross join lateral (select ${sql.raw(phoneOfContact('j'))} as phone) p
      cross join lateral (values (j.phone_jid), (j.lid_jid),
        (case when j.phone_jid is null then ltrim(p.phone, '+') || '@s.whatsapp.net' end)) as f (jid)
      where j.outcome in ('inserted', 'updated', 'amended') and ${sql.raw(isPersonal('f.jid'))}
      -- two contacts of one page that claim a JID: always the same one of them
      order by f.jid, j.person_id desc
    )${jidWrites(connectionId)}`;
}

/** For `judged`: what the stored conversation tells of its other side. */
export const STORED_OTHER_SIDE =
  'e.chat_jid as old_chat_jid, e.direct_person_id as old_direct_person_id, e.last_message_at as old_last_message_at';

/**
 * Of the conversations that are written: members who are new or have become another person, and the other side of a
 * direct chat that is new or has become another, with the time of its last message. What a conversation merely repeats
 * does not count as newer.
 */
export function jidsOfConversations(connectionId: ConnectionId): RawBuilder<unknown> {
  return sql`,
    jid_facts as materialized (
      select distinct on (f.jid) f.jid, f.person_id, null::text as contact_phone,
        ${sql.raw(phoneOf('f.jid'))} as own_phone,
        max(f.last_message_at) over (partition by f.jid) as last_message_at
      from (
        select m.participant_jid as jid, m.person_id, j.seq, null::timestamptz as last_message_at
        from judged j join members m on m.conversation_id = j.conversation_id
        left join stored_members s on s.conversation_id = m.conversation_id and s.participant_jid = m.participant_jid
        where j.outcome in ('inserted', 'updated', 'amended')
          and (s.participant_jid is null or (m.person_id is not null and m.person_id is distinct from s.person_id))
        union all
        select j.chat_jid, case when (j.chat_jid, j.direct_person_id)
            is distinct from (j.old_chat_jid, j.old_direct_person_id) then j.direct_person_id end,
          j.seq, j.last_message_at
        from judged j
        where j.outcome in ('inserted', 'updated', 'amended') and j.kind = 'direct'
          and (j.chat_jid, j.direct_person_id, j.last_message_at)
            is distinct from (j.old_chat_jid, j.old_direct_person_id, j.old_last_message_at)
      ) f
      where ${sql.raw(isPersonal('f.jid'))}
      order by f.jid, f.person_id is null, f.seq desc, f.person_id desc
    )${jidWrites(connectionId)}`;
}

/**
 * Brings `jids` to what `jid_facts` say. One phone number for all JIDs of a person: the contact's, else the one that
 * is known already, else that of a phone JID. Rows that say it already are not touched; `last_seen_at` alone moves once
 * a day at most.
 */
function jidWrites(connectionId: ConnectionId): RawBuilder<unknown> {
  const table = sql.table('jids');
  const connection = sql`(select ${connectionId}::text)`;
  return sql`,
    -- What is told of an account, of its devices too of which nothing else is told. Hardly ever there are any.
    jids_said as materialized (
      select * from jid_facts
      union all
      select d.jid, f.person_id, f.contact_phone, f.own_phone, null
      from jid_facts f
      cross join lateral (
        select s.jid from ${table} s
        where s.connection_id = ${connection} and ${sql.raw(hasDevice('s.jid'))}
          and ${sql.raw(accountOf('s.jid'))} = f.jid offset 0
      ) d
      where f.person_id is not null and d.jid not in (select jid from jid_facts)
    ),
    -- Windows in place of joins: of sets that the statement makes itself the planner takes a handful of rows for granted,
    -- and would compare all with all.
    jid_claims as materialized (
      select c.jid, c.contact_phone, c.known_phone, c.own_phone, c.last_message_at, c.told,
        -- of one that is told without a person: that of its sibling here, which is it, as it is known
        coalesce(c.person_id, max(c.person_id) over (partition by c.jid)) as person_id,
        bool_or(c.told) over (partition by c.jid) as jid_told,
        max(c.person_id) filter (where c.told) over (partition by c.jid) as told_person
      from (
        select jid, person_id, contact_phone, null::text as known_phone, own_phone, last_message_at, true as told
        from jids_said
        union all
        select k.jid, k.person_id, null, k.phone_e164, null, null, false
        from (select distinct person_id from jid_facts where person_id is not null) p
        cross join lateral (
          select * from ${table} s where s.connection_id = ${connection} and s.person_id = p.person_id offset 0
        ) k
      ) c
    ),
    jids_told as materialized (
      select c.jid, c.person_id, c.last_message_at, c.phone
      from (
        select c.*, case when c.person_id is null then c.own_phone else
          coalesce(max(c.contact_phone) over person, max(c.known_phone) over person, max(c.own_phone) over person)
          end as phone
        from jid_claims c
        -- one that is another person's from now on is no sibling
        where c.told or c.told_person is null or c.told_person = c.person_id
        window person as (partition by c.person_id)
      ) c
      where c.told or (not c.jid_told and c.known_phone is distinct from c.phone)
    ),
    jids_due as materialized (
      select n.jid, n.person_id, n.phone, n.last_message_at, e.place
      from jids_told n left join lateral (
        select s.jid, s.person_id, s.phone_e164, s.last_seen_at, s.last_message_at, s.ctid as place
        from ${table} s where s.connection_id = ${connection} and s.jid = n.jid limit 1
      ) e on true
      where e.jid is null or (n.person_id is not null
        and ((e.person_id, e.phone_e164) is distinct from (n.person_id, n.phone)
          or e.last_seen_at < now() - interval '1 day'))
        or n.last_message_at > coalesce(e.last_message_at, '-infinity')
    ),
    -- For each of them an upsert would look once more whether it is there, and lock it.
    jids_known as (
      update ${table} t set
        person_id = coalesce(n.person_id, t.person_id),
        phone_e164 = case when n.person_id is null then t.phone_e164 else n.phone end,
        last_message_at = greatest(t.last_message_at, n.last_message_at), last_seen_at = now()
      from jids_due n where t.ctid = n.place and ${isOf('t', connectionId)}
    ),
    jids_new as (
      insert into ${table} (connection_id, jid, person_id, phone_e164, last_message_at)
      select ${connectionId}, jid, person_id, phone, last_message_at from jids_due where place is null
    )`;
}
