import { type Kysely, sql } from 'kysely';

const raw = sql.raw;

/*
 * Expressions that the program has too, in `src/store`. They stand here once more, since a migration stays what it was.
 */
const phoneOf = (jid: string) =>
  `case when ${jid} ~ '^[1-9][0-9]{4,14}@s\\.whatsapp\\.net$' then '+' || split_part(${jid}, '@', 1) end`;
const isPersonal = (jid: string) =>
  `(${jid} ~ '.@.' and ${jid} !~ '@(g\\.us|broadcast|newsletter)$' and octet_length(${jid}) <= 1024)`;
const OTHER_JID = `case when coalesce(m.is_from_me, m.direction = 'outgoing') then m.chat_jid
  else coalesce(m.sender_jid, m.chat_jid) end`;

/**
 * What a CRM builds on: who is behind a JID, reactions and memberships as rows, and views that resolve names when they
 * are read. A replica that has rows already gets what follows from them here, set-based: one pass over `messages`
 * and one over each small table.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Pages in flight are waited for, and no other begins until all is counted; reading goes on.
  await sql`lock table sync_state in exclusive mode`.execute(db);
  await makeTables(db);
  await fillTables(db);
  await makeIndexes(db);
  await makeViews(db);
}

async function makeTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table jids (
      connection_id text not null,
      jid text not null,
      person_id text,
      phone_e164 text,
      first_seen_at timestamptz not null default now(),
      last_seen_at timestamptz not null default now(),
      last_message_at timestamptz,
      primary key (connection_id, jid)
    );
    comment on table jids is 'who is behind a JID, by what was written last';
    comment on column jids.phone_e164 is 'of the person, the same in all of its rows; never the digits of a LID';
    comment on column jids.last_seen_at is 'when it was last told of by a record that changed something, to the day';
    comment on column jids.last_message_at is 'of its direct chat, as conversations has it';

    create table conversation_counts (
      connection_id text not null,
      conversation_id text not null,
      messages_in bigint not null default 0,
      messages_out bigint not null default 0,
      first_message_at timestamptz,
      last_message_at timestamptz,
      primary key (connection_id, conversation_id)
    );
    comment on table conversation_counts is 'rows in messages by conversation, kept in the page transaction';

    create table message_reactions (
      connection_id text not null,
      message_id text not null,
      reactor_jid text not null,
      emoji text,
      since timestamptz not null default now(),
      primary key (connection_id, message_id, reactor_jid)
    );
    comment on table message_reactions is 'what is understood of messages.reactions, as it is now';
    comment on column message_reactions.since is 'when it was first seen here';

    create table conversation_memberships (
      connection_id text not null,
      conversation_id text not null,
      participant_jid text not null,
      joined_at timestamptz not null default now(),
      left_at timestamptz,
      primary key (connection_id, conversation_id, participant_jid, joined_at)
    );
    comment on table conversation_memberships is 'who was in a group from when to when, as first seen here';
  `.execute(db);
}

async function fillTables(db: Kysely<unknown>): Promise<void> {
  await sql`
    insert into jids (connection_id, jid, person_id, phone_e164, first_seen_at, last_seen_at, last_message_at)
    select distinct on (connection_id, jid) connection_id, jid, person_id,
      case when person_id is null then ${raw(phoneOf('jid'))} else coalesce(
        max(contact_phone) over person,
        max(${raw(phoneOf('jid'))}) over person) end,
      coalesce(min(seen_at) over (partition by connection_id, jid), now()), now(),
      max(last_message_at) over (partition by connection_id, jid)
    from (
      select c.connection_id, f.jid, c.person_id, p.phone as contact_phone, 1 as rank, c.first_synced_at as seen_at,
        c.synced_at as told_at, null::timestamptz as last_message_at
      from contacts c
      cross join lateral (select coalesce(
        case when c.phone_e164 ~ '^\\+?[1-9][0-9]{4,14}$'
            and ltrim(c.phone_e164, '+') is distinct from split_part(c.lid_jid, '@', 1)
          then '+' || ltrim(c.phone_e164, '+') end,
        ${raw(phoneOf('c.phone_jid'))}) as phone) p
      cross join lateral (values (c.phone_jid), (c.lid_jid),
        (case when c.phone_jid is null then ltrim(p.phone, '+') || '@s.whatsapp.net' end)) as f (jid)
      union all
      select p.connection_id, p.participant_jid, p.person_id, null, 2, c.first_synced_at, c.synced_at, null
      from conversation_participants p left join conversations c using (connection_id, conversation_id)
      union all
      select connection_id, chat_jid, direct_person_id, null, 2, first_synced_at, synced_at, last_message_at
      from conversations where kind = 'direct'
    ) told
    where ${raw(isPersonal('jid'))}
    window person as (partition by connection_id, person_id)
    order by connection_id, jid, person_id is null, rank, told_at desc nulls last, person_id desc;

    insert into jids (connection_id, jid, phone_e164, first_seen_at)
    select connection_id, jid, ${raw(phoneOf('jid'))}, min(first_synced_at)
    from (select m.connection_id, ${raw(OTHER_JID)} as jid, m.first_synced_at from messages m) m
    where ${raw(isPersonal('jid'))} group by connection_id, jid
    on conflict do nothing;

    insert into conversation_counts
    select connection_id, conversation_id,
      count(*) filter (where not coalesce(is_from_me, direction = 'outgoing', false)),
      count(*) filter (where coalesce(is_from_me, direction = 'outgoing', false)), min(sent_at), max(sent_at)
    from messages where conversation_id is not null group by connection_id, conversation_id;

    insert into message_reactions
    select m.connection_id, m.message_id, r.key, o.emoji, m.synced_at
    from messages m
    cross join lateral jsonb_each(case when jsonb_typeof(m.reactions) = 'object' then m.reactions end) r
    cross join lateral (
      select case jsonb_typeof(r.value) when 'string' then r.value #>> '{}'
        when 'object' then case jsonb_typeof(r.value -> 'emoji') when 'string' then r.value ->> 'emoji' end
      end as emoji
    ) o
    where m.reactions <> '{}' and r.key ~ '.@.' and octet_length(r.key) <= 1024
      and octet_length(o.emoji) between 1 and 64;

    insert into conversation_memberships (connection_id, conversation_id, participant_jid, joined_at)
    select connection_id, conversation_id, p.participant_jid, coalesce(c.first_synced_at, now())
    from conversation_participants p left join conversations c using (connection_id, conversation_id)
    where c.kind is distinct from 'direct';
  `.execute(db);
}

/** Who a row of `jids` is across connections: the number, else the person or the JID of one connection. */
const keyOf = (j: string) =>
  `coalesce(${j}phone_e164, ${j}connection_id || ' ' || coalesce(${j}person_id, ${j}jid))`;

async function makeIndexes(db: Kysely<unknown>): Promise<void> {
  await sql`
    create index jids_by_person on jids (connection_id, person_id);
    create index jids_by_key on jids ((${raw(keyOf(''))}));
    create index jids_by_phone on jids (phone_e164);
    create index jids_by_time on jids (last_message_at desc nulls last);
    create index conversation_memberships_by_jid on conversation_memberships (connection_id, participant_jid);
    create index conversations_by_time on conversations (connection_id, last_message_at desc nulls last);
    create index conversations_by_chat on conversations (connection_id, chat_jid);
    analyze jids, conversation_counts, message_reactions, conversation_memberships;
  `.execute(db);
}

const nameOf = (c: string) => `coalesce(nullif(${c}.display_name, ''),
    nullif(trim(concat_ws(' ', ${c}.first_name, ${c}.last_name)), ''), nullif(${c}.whatsapp_push_name, ''))`;

/** The name of a person in one connection. */
const nameIn = (connection: string, person: string) => `(select ${nameOf('c')} from contacts c
    where c.connection_id = ${connection} and c.person_id = ${person})`;

/** The title of a conversation `v`. */
const TITLE = `case when v.kind = 'direct' then coalesce(
      (select coalesce(${nameIn('v.connection_id', 'coalesce(d.person_id, v.direct_person_id)')}, d.phone_e164)
        from jids d where d.connection_id = v.connection_id and d.jid = v.chat_jid),
      ${nameIn('v.connection_id', 'v.direct_person_id')}, v.chat_jid)
    else coalesce(nullif(v.subject, ''), v.chat_jid) end`;

/**
 * Names, titles and counts are sub-selects in the list of columns: Postgres works them out after the limit, for the
 * rows of the page alone.
 */
async function makeViews(db: Kysely<unknown>): Promise<void> {
  await sql`
    create view identities as
    select j.connection_id, j.jid, j.person_id, j.phone_e164, ${raw(keyOf('j.'))} as person_key,
      ${raw(nameIn('j.connection_id', 'j.person_id'))} as name,
      j.first_seen_at, j.last_seen_at
    from jids j;

    create view message_feed as
    select m.connection_id, m.message_id, m.conversation_id, m.sent_at,
      coalesce(m.is_from_me, m.direction = 'outgoing') as is_from_me,
      coalesce((select ${raw(TITLE)} from conversations v
        where v.connection_id = m.connection_id and v.conversation_id = m.conversation_id), m.chat_jid) as chat_title,
      (select v.kind from conversations v
        where v.connection_id = m.connection_id and v.conversation_id = m.conversation_id) as chat_kind,
      m.chat_jid,
      m.sender_jid,
      case when coalesce(m.is_from_me, m.direction = 'outgoing') then nullif(m.sender_push_name, '')
        else coalesce(${raw(nameIn('m.connection_id', 'j.person_id'))}, nullif(m.sender_push_name, '')) end as sender_name,
      case when coalesce(m.is_from_me, m.direction = 'outgoing') then coalesce(${raw(phoneOf('m.sender_jid'))},
          (select ${raw(phoneOf("regexp_replace(o.jid, ':[0-9]+@', '@')"))} from connections o
            where o.connection_id = m.connection_id))
        else j.phone_e164 end as sender_e164,
      ${raw(OTHER_JID)} as person_jid,
      j.person_id,
      ${raw(nameIn('m.connection_id', 'j.person_id'))} as person_name,
      j.phone_e164 as person_e164,
      ${raw(keyOf('j.'))} as person_key,
      m.content_type, m.body, m.media, m.reactions, m.status, m.wa_message_id, m.reply_to_wa_id,
      m.received_at, m.edited_at, m.deleted_at, m.seq
    from messages m
    left join jids j on j.connection_id = m.connection_id and j.jid = ${raw(OTHER_JID)};

    create view conversation_list as
    select v.connection_id, v.conversation_id, v.kind, ${raw(TITLE)} as title, v.chat_jid,
      coalesce(k.person_id, v.direct_person_id) as person_id,
      k.phone_e164 as person_e164,
      case when v.kind = 'direct' then ${raw(keyOf('k.'))} end as person_key,
      v.is_archived, v.last_message_at,
      (select m.message_id from messages m
        where m.connection_id = v.connection_id and m.conversation_id = v.conversation_id
          and m.sent_at is not null order by m.sent_at desc limit 1) as last_message_id,
      (select m.body from messages m
        where m.connection_id = v.connection_id and m.conversation_id = v.conversation_id
          and m.sent_at is not null order by m.sent_at desc limit 1) as last_message_body,
      (select m.content_type from messages m
        where m.connection_id = v.connection_id and m.conversation_id = v.conversation_id
          and m.sent_at is not null order by m.sent_at desc limit 1) as last_message_type,
      (select coalesce(m.is_from_me, m.direction = 'outgoing') from messages m
        where m.connection_id = v.connection_id and m.conversation_id = v.conversation_id
          and m.sent_at is not null order by m.sent_at desc limit 1) as last_message_is_from_me,
      coalesce((select n.messages_in + n.messages_out from conversation_counts n
        where n.connection_id = v.connection_id and n.conversation_id = v.conversation_id), 0) as messages,
      coalesce((select n.messages_in from conversation_counts n
        where n.connection_id = v.connection_id and n.conversation_id = v.conversation_id), 0) as messages_in,
      coalesce((select n.messages_out from conversation_counts n
        where n.connection_id = v.connection_id and n.conversation_id = v.conversation_id), 0) as messages_out,
      (select count(*) from conversation_participants p
        where p.connection_id = v.connection_id and p.conversation_id = v.conversation_id) as participants
    from conversations v
    left join jids k on k.connection_id = v.connection_id and k.jid = v.chat_jid;
  `.execute(db);

  // A person is shown by the one of its JIDs whose chat was used last, so that the newest 50 are the first of an index.
  const known = (j: string) => `(${j}.person_id is not null or ${j}.last_message_at is not null)`;
  const all = `from jids o where ${keyOf('o.')} = ${keyOf('j.')} and ${known('o')}`;
  const chats = `from jids o
        join conversations v on v.connection_id = o.connection_id and v.chat_jid = o.jid and v.kind = 'direct'
        join conversation_counts n on n.connection_id = v.connection_id and n.conversation_id = v.conversation_id
        where ${keyOf('o.')} = ${keyOf('j.')}`;
  const place = (j: string) => `(coalesce(${j}.last_message_at, '-infinity'), ${j}.connection_id, ${j}.jid)`;
  await sql`
    create view people as
    select ${raw(keyOf('j.'))} as person_key, j.phone_e164,
      (select ${raw(nameOf('c'))} from jids o join contacts c
          on c.connection_id = o.connection_id and c.person_id = o.person_id
        where ${raw(keyOf('o.'))} = ${raw(keyOf('j.'))}
        order by nullif(c.display_name, '') is null,
          nullif(trim(concat_ws(' ', c.first_name, c.last_name)), '') is null,
          nullif(c.whatsapp_push_name, '') is null, c.synced_at desc, c.connection_id
        limit 1) as name,
      (select array_agg(distinct o.connection_id order by o.connection_id) ${raw(all)}) as connection_ids,
      (select array_agg(distinct o.jid order by o.jid) ${raw(all)}) as jids,
      (select min(n.first_message_at) ${raw(chats)}) as first_contact_at,
      j.last_message_at as last_contact_at,
      (select coalesce(sum(n.messages_in), 0) ${raw(chats)})::bigint as messages_in,
      (select coalesce(sum(n.messages_out), 0) ${raw(chats)})::bigint as messages_out
    from jids j
    where ${raw(known('j'))} and not exists (select ${raw(all)} and ${raw(place('o'))} > ${raw(place('j'))});
  `.execute(db);
}
