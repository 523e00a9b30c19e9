import { type Kysely, sql } from 'kysely';

/**
 * The change feed: numbered rows per connection, consumers with a position per connection, and the functions that
 * hand rows out. These belong to the schema's owner and run with its rights, on this schema whatever it is called, so
 * that whoever may call them needs no right to write (deploy/sql/roles.sql).
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table changes (
      connection_id text not null,
      change_no bigint not null,
      kind text,
      record_id text,
      op text,
      changed_fields text[],
      at timestamptz not null default statement_timestamp(),
      primary key (connection_id, change_no)
    );
    comment on column changes.kind is 'message, conversation, contact, reaction or membership';
    comment on column changes.op is 'inserted, updated or deleted';
    comment on column changes.changed_fields is 'columns that differ from before; null for inserted';

    alter table sync_state add column last_change_no bigint not null default 0;
    comment on column sync_state.last_change_no is 'the number that was last given in changes';

    create table change_consumers (
      consumer text primary key,
      registered_at timestamptz not null default now()
    );

    create table change_positions (
      connection_id text not null,
      consumer text not null,
      change_no bigint not null default 0,
      handed_to bigint not null default 0,
      leased_to bigint not null default 0,
      leased_until timestamptz,
      read_at timestamptz,
      acked_at timestamptz,
      primary key (connection_id, consumer)
    );
    comment on column change_positions.change_no is 'acknowledged up to here';
    comment on column change_positions.handed_to is 'the highest number that was ever handed out';
    comment on column change_positions.leased_to is 'the highest number that the present lease covers';
  `.execute(db);

  const { rows } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);
  const schema = rows[0]!.schema;
  // Temporary tables last: a caller's must not stand for the schema's own.
  const safe = sql`security definer set search_path = pg_catalog, ${sql.id(schema)}, pg_temp`;

  await sql`
    create function consumer_start(connection_id text, starting text) returns bigint
    language plpgsql stable ${safe} as $$
    #variable_conflict use_column
    begin
      if starting is null or starting not in ('start', 'now') then
        raise exception 'a consumer starts at ''start'' or ''now'', not at %', quote_nullable(starting)
          using errcode = 'invalid_parameter_value';
      end if;
      -- Numbers without rows were pruned: it starts behind them.
      return (select case when starting = 'now' then s.last_change_no else coalesce(
          (select min(c.change_no) - 1 from changes c where c.connection_id = s.connection_id), s.last_change_no) end
        from sync_state s where s.connection_id = consumer_start.connection_id);
    end $$;

    create function register_consumer(consumer text, starting text default 'start') returns boolean
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    begin
      insert into change_consumers (consumer) values (register_consumer.consumer) on conflict do nothing;
      if not found then return false; end if;
      insert into change_positions (connection_id, consumer, change_no)
        select s.connection_id, register_consumer.consumer, consumer_start(s.connection_id, starting) from sync_state s;
      return true;
    end $$;
    comment on function register_consumer is 'makes a consumer known; false where it was';

    create function restart_consumer(consumer text, connection_id text default null, starting text default 'now')
    returns void language plpgsql ${safe} as $$
    #variable_conflict use_column
    begin
      update change_positions p set change_no = consumer_start(p.connection_id, starting),
          handed_to = 0, leased_to = 0, leased_until = null
        where p.consumer = restart_consumer.consumer
          and (restart_consumer.connection_id is null or p.connection_id = restart_consumer.connection_id)
          and exists (select from sync_state s where s.connection_id = p.connection_id);
      if not found then
        raise exception 'consumer % has no position of that connection', quote_nullable(restart_consumer.consumer)
          using errcode = 'WR002';
      end if;
    end $$;
    comment on function restart_consumer is 'moves a consumer, on one connection or on all, to the start or to now';

    create function drop_consumer(consumer text) returns boolean
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    begin
      delete from change_positions p where p.consumer = drop_consumer.consumer;
      delete from change_consumers c where c.consumer = drop_consumer.consumer;
      return found;
    end $$;

    create function read_changes(consumer text, max integer default 500, lease interval default interval '1 minute')
    returns table (connection_id text, change_no bigint, kind text, record_id text, op text, changed_fields text[],
      at timestamptz)
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    declare
      -- Fetched one by one, so that no connection is locked that nothing is taken of.
      free cursor for
        select p.connection_id, p.change_no from change_positions p join sync_state s using (connection_id)
        where p.consumer = read_changes.consumer and p.change_no < s.last_change_no
          and (p.leased_until is null or p.leased_until <= clock_timestamp())
        order by p.read_at nulls first, p.connection_id
        for no key update of p skip locked;
      one record;
      wanted bigint := max;
      handed bigint;
    begin
      if max is null or max < 1 then
        raise exception 'at least one change is to be read, not %', coalesce(max::text, 'null')
          using errcode = 'invalid_parameter_value';
      end if;
      if not exists (select from change_consumers c where c.consumer = read_changes.consumer) then
        perform register_consumer(read_changes.consumer);
      end if;
      -- A connection that is new is read from its first change.
      insert into change_positions (connection_id, consumer)
        select s.connection_id, read_changes.consumer from sync_state s
        where not exists (select from change_positions p
          where p.connection_id = s.connection_id and p.consumer = read_changes.consumer)
        on conflict do nothing;
      open free;
      loop
        fetch free into one;
        exit when not found;
        return query
          select c.connection_id, c.change_no, c.kind, c.record_id, c.op, c.changed_fields, c.at
          from (
            select r.*, row_number() over (order by r.change_no) as place from changes r
            where r.connection_id = one.connection_id
              and r.change_no > one.change_no and r.change_no <= one.change_no + wanted
          ) c
          -- Not beyond a number that is missing.
          where c.change_no = one.change_no + c.place order by c.change_no;
        get diagnostics handed = row_count;
        if handed = 0 then
          raise exception using errcode = 'WR001',
            message = format('consumer %L comes too late: changes of connection %L after number %s are gone',
              read_changes.consumer, one.connection_id, one.change_no),
            detail = 'They were pruned after CHANGES_RETENTION, or were not told of because CHANGES was off.',
            hint = format('select %I.restart_consumer(%L, %L), then read the tables anew, then go on.',
              ${sql.lit(schema)}, read_changes.consumer, one.connection_id);
        end if;
        update change_positions p set leased_until = clock_timestamp() + lease, read_at = clock_timestamp(),
            leased_to = one.change_no + handed, handed_to = greatest(p.handed_to, one.change_no + handed)
          where p.connection_id = one.connection_id and p.consumer = read_changes.consumer;
        wanted := wanted - handed;
        exit when wanted < 1;
      end loop;
      close free;
    end $$;
    comment on function read_changes is
      'hands out at most max changes that nobody else of this consumer has now, and leases their connections';

    create function ack_changes(consumer text, positions jsonb) returns void
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    declare
      one record;
    begin
      for one in select key, value::bigint as no from jsonb_each_text(positions) order by key loop
        update change_positions p set change_no = greatest(p.change_no, one.no), acked_at = clock_timestamp(),
            leased_until = case when one.no < p.leased_to then p.leased_until end
          where p.connection_id = one.key and p.consumer = ack_changes.consumer and one.no <= p.handed_to;
        if found then continue; end if;
        if not exists (select from change_consumers c where c.consumer = ack_changes.consumer) then
          raise exception 'there is no consumer %', quote_nullable(ack_changes.consumer) using errcode = 'WR002';
        end if;
        raise exception using errcode = 'WR003',
          message = format('consumer %L was not handed change %s of connection %L',
            ack_changes.consumer, coalesce(one.no::text, 'null'), one.key),
          hint = 'Acknowledge what read_changes returned, by its connection_id and change_no.';
      end loop;
    end $$;

    create function ack_changes(consumer text, connection_id text, change_no bigint) returns void
    language sql ${safe} as $$
      select ack_changes($1, jsonb_build_object($2, $3))
    $$;

    revoke all on function consumer_start(text, text), register_consumer(text, text),
      restart_consumer(text, text, text), drop_consumer(text), read_changes(text, integer, interval),
      ack_changes(text, jsonb), ack_changes(text, text, bigint) from public;
  `.execute(db);
}
