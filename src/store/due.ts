import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { interval } from './interval.ts';

/*
 * When a connection is polled next: `next_poll_at`, which its holder sets after each turn, and anybody may bring forward.
 */

/** How early a timer may fire, in milliseconds: a turn that begins at its own time was not asked for by anybody. */
const TIMER_SLACK = 2;

/** SQL: a new `next_poll_at`; an earlier one that somebody set since stays. @param ago milliseconds before the statement
 * was sent, which may wait for who sets it. */
export function unlessDueSince(ago: number, next: RawBuilder<unknown>) {
  return sql`case
    when next_poll_at > statement_timestamp() - ${interval(ago - TIMER_SLACK)} and next_poll_at <= clock_timestamp()
      then next_poll_at
    else ${next} end`;
}

/** Makes connections due now, whoever holds them; those whose row is locked are left out.
 * @returns these. */
export async function makeDueUnlessLocked(
  db: Db,
  connectionIds: readonly ConnectionId[],
): Promise<ConnectionId[]> {
  const table = sql.table('sync_state');
  const { rows } = await sql<{ connection_id: string }>`
    with free as (
      select connection_id from ${table} where connection_id = any(${[...connectionIds]}::text[])
      for no key update skip locked
    ), made as (
      update ${table} s set next_poll_at = clock_timestamp() from free
      where s.connection_id = free.connection_id
    )
    select s.connection_id from ${table} s left join free using (connection_id)
    where s.connection_id = any(${[...connectionIds]}::text[]) and free.connection_id is null`.execute(db);
  return rows.map((row) => row.connection_id);
}
