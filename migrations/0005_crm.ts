import { type Kysely, sql } from 'kysely';

const raw = sql.raw;

/** Whose message it is beside ours, as `0003_people` and the index `messages_by_person` have it. */
const OTHER_JID = `case when coalesce(m.is_from_me, m.direction = 'outgoing') then m.chat_jid
  else coalesce(m.sender_jid, m.chat_jid) end`;

/** What is searched of a message, as the indexes `messages_by_words` and `messages_by_parts` have it. */
const TEXT = (m: string) => `left(${m}.body, 65536)`;
const WORDS = (m: string) => `to_tsvector('simple'::regconfig, ${TEXT(m)})`;

/**
 * The CRM's contacts by phone number, what was written with them, and the search over bodies. The indexes that make the
 * search quick are built beside the work (`store/indexes.ts`); without them the function finds the same, slowly.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table crm_links (
      crm_id text collate "C" not null,
      phone_e164 text not null,
      raw_phone text,
      linked_at timestamptz not null default now(),
      primary key (crm_id, phone_e164)
    );
    create index crm_links_by_phone on crm_links (phone_e164);
    comment on table crm_links is 'contacts of the CRM by number, as CRM_CONTACTS_QUERY gave them last';
    comment on column crm_links.raw_phone is 'as it was typed';

    create view crm_timeline as
    select l.crm_id, f.*
    from crm_links l
    join jids i on i.phone_e164 = l.phone_e164
    join message_feed f on f.connection_id = i.connection_id and f.person_jid = i.jid;
  `.execute(db);
  await makeSearch(db);
}

/**
 * Newest first, and never a sort of all that matches: a word that half of the messages have must not cost half of the
 * table. First the newest thousand are read along the index by time: a common word is found often enough there. Then the
 * index by words is asked, about two stretches of time in which Postgres may join both indexes by their bitmaps, and
 * about all the rest at last: what was seldom up to there has few matches.
 */
async function makeSearch(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);
  const schema = rows[0]!.schema;
  const walk = (along: string) => `
      with recent as materialized (
        select l.lane, m.connection_id, m.message_id, m.sent_at, m.body
        from unnest(connections, people) with ordinality l (connection_id, jid, lane)
        cross join lateral (
          select m.connection_id, m.message_id, m.sent_at, m.body from messages m
          where m.connection_id = l.connection_id ${along} and m.sent_at >= earliest and m.sent_at < latest
          order by m.sent_at desc limit per_lane
        ) m
      ),
      cut as (
        select max(c.oldest) as oldest from (
          select min(r.sent_at) as oldest from recent r group by r.lane having count(*) >= per_lane
        ) c
      ),
      hits as (
        select r.connection_id, r.message_id, r.sent_at from recent r, cut c
        where (c.oldest is null or r.sent_at > c.oldest) and
          case when parts then ${TEXT('r')} ilike all(likes) else ${WORDS('r')} @@ wanted end
        order by r.sent_at desc, r.message_id limit most
      )
      select (select array_agg(h.connection_id order by h.sent_at desc, h.message_id) from hits h),
        (select array_agg(h.message_id order by h.sent_at desc, h.message_id) from hits h),
        (select c.oldest from cut c), (select max(r.sent_at) from recent r)
      into found_connections, found_messages, upper_end, newest`;
  await sql`
    create function search_messages(query text, phone text default null, person text default null,
      crm_id text default null, connection text default null, since timestamptz default null,
      before timestamptz default null, max integer default 50,
      parts boolean default false)
    returns table (connection_id text, message_id text, conversation_id text, sent_at timestamptz, is_from_me boolean,
      chat_title text, chat_kind text, sender_name text, sender_e164 text, person_name text, person_e164 text,
      person_key text, content_type text, body text, deleted_at timestamptz)
    language plpgsql stable set search_path = pg_catalog, ${sql.id(schema)}, pg_temp set jit = off as $$
    #variable_conflict use_column
    declare
      wanted tsquery;
      likes text[];
      most integer := max;
      earliest timestamptz := coalesce(since, '-infinity');
      latest timestamptz := coalesce(before, 'infinity');
      of_person boolean := coalesce(phone, person, crm_id) is not null;
      prefix text;
      connections text[];
      people text[];
      pairs text[];
      look text;
      sorted text;
      per_lane integer;
      found_connections text[];
      found_messages text[];
      more_connections text[];
      more_messages text[];
      newest timestamptz;
      upper_end timestamptz;
      lower_end timestamptz;
      width interval;
      step integer := 1;
    begin
      if max is null or max < 1 then
        raise exception 'at least one message is to be found, not %', coalesce(max::text, 'null')
          using errcode = 'invalid_parameter_value';
      end if;
      if parts then
        -- What stands between blanks, or in quotes; nothing in it means anything but itself.
        select array_agg('%' || regexp_replace(coalesce(p[1], p[2]), '([\\\\%_])', '\\\\\\1', 'g') || '%') into likes
        from regexp_matches(query, '"([^"]+)"|([^"[:space:]]+)', 'g') p where coalesce(p[1], p[2]) ~ '[^[:space:]]';
        if likes is null then return; end if;
      else
        wanted := websearch_to_tsquery('simple', query);
        -- word* is what begins with it.
        for prefix in select distinct lower(p[1]) from regexp_matches(query, '([[:alnum:]]+)\\*', 'g') p loop
          wanted := replace(wanted::text, quote_literal(prefix), quote_literal(prefix) || ':*')::tsquery;
        end loop;
        if wanted is null or numnode(wanted) = 0 then return; end if;
      end if;

      if of_person then
        select array_agg(j.connection_id order by j.connection_id, j.jid), array_agg(j.jid order by j.connection_id, j.jid)
        into connections, people
        from jids j
        where (search_messages.phone is null or j.phone_e164 = search_messages.phone)
          and (search_messages.person is null or j.person_id = search_messages.person)
          and (search_messages.crm_id is null or j.phone_e164 in (
            select l.phone_e164 from crm_links l where l.crm_id = search_messages.crm_id))
          and (search_messages.connection is null or j.connection_id = search_messages.connection);
      else
        select array_agg(s.connection_id) into connections from sync_state s
        where search_messages.connection is null or s.connection_id = search_messages.connection;
      end if;
      if connections is null then return; end if;

      per_lane := greatest(1000 / cardinality(connections), 25);
      if of_person then
        ${raw(walk(`and (${OTHER_JID}) = l.jid`))};
      else
        ${raw(walk(''))};
      end if;

      look := $q$
        select array_agg(x.connection_id order by x.sent_at desc, x.message_id),
          array_agg(x.message_id order by x.sent_at desc, x.message_id)
        from (
          select m.connection_id, m.message_id, m.sent_at from messages m
          where m.connection_id = any($2) and $q$ || case when parts
            -- One condition for each: the index knows no "all".
            then (select string_agg(format($l$ ${raw(TEXT('m'))} ilike %L $l$, l), ' and ') from unnest(likes) l)
            else $q$ ${raw(WORDS('m'))} @@ $1 $q$ end;
      if of_person then
        -- The pair as a text: a sub-select would be a join, which keeps Postgres from the index by words.
        look := look || $q$ and (${raw(OTHER_JID)}) = any($3) and m.connection_id || ' ' || ${raw(OTHER_JID)} = any($4) $q$;
        select array_agg(c || ' ' || j) into pairs from unnest(connections, people) p (c, j);
      end if;
      -- By the arithmetic no index gives this order: Postgres shall not walk along one, hoping for matches to come soon.
      sorted := $q$ order by m.sent_at + interval '0' desc, m.message_id limit $5) x $q$;

      -- Down from the first time that the walk has not seen all of: about eight times as much, eight times that, and the
      -- rest; at once the rest where there was none in the first.
      width := greatest(newest - upper_end, interval '1 minute');
      while upper_end >= earliest and coalesce(cardinality(found_messages), 0) < most loop
        width := least(width * 8, interval '100 years');
        lower_end := greatest(case when step < 3 then upper_end - width else '-infinity' end,
          earliest - interval '1 microsecond');
        execute look || case when step < 3
            -- Of times that it does not know, Postgres takes a two-hundredth of the rows to be meant. Of those it knows,
            -- it would take none: the newest rows are in no statistics yet.
            then ' and m.sent_at > (select $6::timestamptz) and m.sent_at <= (select $7::timestamptz) '
            else $q$ and m.sent_at + interval '0' > $6 and m.sent_at + interval '0' <= $7 $q$ end || sorted
          into more_connections, more_messages
          using wanted, connections, people, pairs, most - coalesce(cardinality(found_messages), 0),
            lower_end, upper_end;
        found_connections := found_connections || more_connections;
        found_messages := found_messages || more_messages;
        exit when step = 3;
        step := case when more_messages is null then 3 else step + 1 end;
        upper_end := lower_end;
      end loop;

      -- At last those of which nobody has told the time yet.
      if since is null and before is null and coalesce(cardinality(found_messages), 0) < most then
        execute look || ' and m.sent_at is null ' || sorted into more_connections, more_messages
          using wanted, connections, people, pairs, most - coalesce(cardinality(found_messages), 0);
        found_connections := found_connections || more_connections;
        found_messages := found_messages || more_messages;
      end if;

      return query
        select f.connection_id, f.message_id, f.conversation_id, f.sent_at, f.is_from_me, f.chat_title, f.chat_kind,
          f.sender_name, f.sender_e164, f.person_name, f.person_e164, f.person_key, f.content_type, f.body,
          f.deleted_at
        from unnest(found_connections, found_messages) with ordinality k (connection_id, message_id, place)
        cross join lateral (
          select * from message_feed f
          where f.connection_id = k.connection_id and f.message_id = k.message_id limit 1
        ) f
        order by k.place;
    end $$;
    comment on function search_messages is 'messages with these words, newest first; as websearch_to_tsquery, and word*; or with these parts of words';

    -- Rows that are new wait in a list of each index, which every search reads as a whole; for its owner alone to clear.
    create function tend_search() returns bigint
    language sql security definer set search_path = pg_catalog, ${sql.id(schema)}, pg_temp as $$
      select coalesce(sum(gin_clean_pending_list(i.index)), 0)::bigint from (
        select t.relid as index
        from unnest(array[${sql.lit(`${schema}.messages_by_words`)}, ${sql.lit(`${schema}.messages_by_parts`)}]) n (name),
          lateral (
            select oid::regclass as relid from pg_class where oid = to_regclass(n.name) and relkind = 'i'
            union
            select p.relid from pg_partition_tree(to_regclass(n.name)) p where p.isleaf
          ) t
      ) i join pg_index x on x.indexrelid = i.index and x.indisvalid and x.indisready
    $$;
    comment on function tend_search is 'merges what is new into the indexes of the search; pages that waited';

    revoke all on function search_messages(text, text, text, text, text, timestamptz, timestamptz, integer, boolean),
      tend_search() from public;
  `.execute(db);
}
