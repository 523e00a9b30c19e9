import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** How a connection's attachments stand; every int64 is a string. */
export interface MediaCounts {
  readonly connection_id: ConnectionId;
  readonly pending: string;
  readonly stored: string;
  readonly unavailable: string;
  readonly failed: string;
  /** Of the stored ones; a file that several messages share counts for each. */
  readonly bytes: string;
  /** Age of the message that has waited longest, in seconds; 0 where none waits. */
  readonly oldest_pending_seconds: number;
  /** Those that failed or are tried again, by kind of error. */
  readonly errors: Readonly<Record<string, number>>;
}

/**
 * Counts by connection: reads all of the table. Of a connection that was removed nothing waits any more.
 * @param connectionId of this connection; of all where undefined.
 */
export async function countMedia(db: Db, connectionId?: string): Promise<MediaCounts[]> {
  const { rows } = await sql<MediaCounts>`
    with counted as (
      select m.connection_id, count(*) filter (where m.state = 'stored') as stored,
        count(*) filter (where m.state = 'unavailable') as unavailable,
        count(*) filter (where m.state = 'failed') as failed,
        count(*) filter (where m.state = 'pending') as pending,
        coalesce(sum(m.bytes) filter (where m.state = 'stored'), 0)::bigint as bytes,
        min(m.sent_at) filter (where m.state = 'pending') as oldest
      from ${sql.table('media')} m
      ${connectionId === undefined ? sql`` : sql`where m.connection_id = ${connectionId}`}
      group by m.connection_id
    )
    select c.connection_id, case when k.removed_at is null then c.pending else 0 end::text as pending,
      c.stored::text as stored, c.unavailable::text as unavailable, c.failed::text as failed, c.bytes::text as bytes,
      case when k.removed_at is null then coalesce(extract(epoch from clock_timestamp() - c.oldest), 0) else 0 end::float
        as oldest_pending_seconds,
      coalesce((select jsonb_object_agg(e.error_kind, e.n) from (
        select m.error_kind, count(*) as n from ${sql.table('media')} m
        where m.connection_id = c.connection_id and m.state in ('pending', 'failed') and m.error_kind is not null
        group by 1
      ) e), '{}') as errors
    from counted c left join ${sql.table('connections')} k on k.connection_id = c.connection_id
    order by c.connection_id`.execute(db);
  return rows;
}

/** Which attachments are to be tried again. */
export interface RetryFilter {
  readonly connection?: string | undefined;
  /** These messages; all where absent. */
  readonly messages?: readonly string[] | undefined;
  readonly states: readonly ('pending' | 'failed' | 'unavailable')[];
}

/** Makes attachments due now, as if they were new. What is in hand is left alone.
 * @returns how many. */
export async function retryMedia(db: Db, { connection, messages, states }: RetryFilter): Promise<number> {
  let query = db
    .updateTable('media')
    .set({ state: 'pending', attempts: 0, next_try_at: sql`now()`, error_kind: null, error: null })
    .where('state', 'in', [...states])
    .where((is) => is.or([is('claimed_until', 'is', null), is('claimed_until', '<=', sql<Date>`now()`)]));
  if (connection !== undefined) query = query.where('connection_id', '=', connection);
  if (messages !== undefined) query = query.where('message_id', 'in', [...messages]);
  const { numUpdatedRows } = await query.executeTakeFirst();
  return Number(numUpdatedRows);
}
