import { type Kysely, sql } from 'kysely';

/**
 * Leases of consumers: one is for some time, so that no two readers share rows unawares, and one from before the
 * database's clock was put back is over. A consumer that was dropped while it read can be registered again: the read had
 * made positions for it, and these are nobody's.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);
  const schema = rows[0]!.schema;
  const safe = sql`security definer set search_path = pg_catalog, ${sql.id(schema)}, pg_temp`;

  await sql`
    create or replace function register_consumer(consumer text, starting text default 'start') returns boolean
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    begin
      insert into change_consumers (consumer) values (register_consumer.consumer) on conflict do nothing;
      if not found then return false; end if;
      insert into change_positions (connection_id, consumer, change_no)
        select s.connection_id, register_consumer.consumer, consumer_start(s.connection_id, starting) from sync_state s
      on conflict (connection_id, consumer) do update set change_no = excluded.change_no,
        handed_to = 0, leased_to = 0, leased_until = null, read_at = null, acked_at = null;
      return true;
    end $$;

    create or replace function read_changes(consumer text, max integer default 500,
      lease interval default interval '1 minute')
    returns table (connection_id text, change_no bigint, kind text, record_id text, op text, changed_fields text[],
      at timestamptz)
    language plpgsql ${safe} as $$
    #variable_conflict use_column
    declare
      -- Fetched one by one, so that no connection is locked that nothing is taken of.
      free cursor for
        select p.connection_id, p.change_no from change_positions p join sync_state s using (connection_id)
        where p.consumer = read_changes.consumer and p.change_no < s.last_change_no
          and (p.leased_until is null or p.leased_until <= clock_timestamp()
            -- Read later than now: the clock was put back.
            or p.read_at > clock_timestamp() + interval '1 minute')
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
      if lease is null or lease < interval '0' then
        raise exception 'a lease is for some time, not %', coalesce(lease::text, 'null')
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
  `.execute(db);
}
