import { type Kysely, sql } from 'kysely';

/**
 * `restart_consumer` also for a connection of which the consumer never had a change. Where the first ones are gone
 * already, `read_changes` refuses, and the position that it made is undone with it: there was none to be moved.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);
  const schema = rows[0]!.schema;
  await sql`
    create or replace function restart_consumer(consumer text, connection_id text default null,
      starting text default 'now')
    returns void language plpgsql security definer set search_path = pg_catalog, ${sql.id(schema)}, pg_temp as $$
    #variable_conflict use_column
    begin
      insert into change_positions as p (connection_id, consumer, change_no)
        select s.connection_id, c.consumer, consumer_start(s.connection_id, starting)
        from change_consumers c cross join sync_state s
        where c.consumer = restart_consumer.consumer
          and (restart_consumer.connection_id is null or s.connection_id = restart_consumer.connection_id)
        order by s.connection_id
      on conflict (connection_id, consumer) do update set change_no = excluded.change_no,
        handed_to = 0, leased_to = 0, leased_until = null;
      if not found then
        raise exception 'consumer % has no position of that connection', quote_nullable(restart_consumer.consumer)
          using errcode = 'WR002';
      end if;
    end $$;
  `.execute(db);
}
