import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/**
 * The connection that has waited longest for a job that was due at `dueAt`, among those given; undefined where all have
 * had it. One that is new here is due with the next time. What was done later than now was noted before a clock was put
 * back, and when it was done is not known: it is due.
 * @param times ISO 8601, of the caller's clock, which may be behind another worker's.
 * @param urgent those that are due whatever the time.
 */
export async function nextFor(
  db: Db,
  job: string,
  connectionIds: readonly ConnectionId[],
  { dueAt, now }: { readonly dueAt: string; readonly now: string },
  urgent: readonly ConnectionId[],
): Promise<ConnectionId | undefined> {
  const table = sql.table('upkeep');
  await sql`insert into ${table} (connection_id, job)
    select id, ${job} from unnest(${[...connectionIds]}::text[]) as id
    on conflict (connection_id, job) do nothing`.execute(db);
  const { rows } = await sql<{ connection_id: string }>`
    select connection_id from ${table}
    where job = ${job} and connection_id = any(${[...connectionIds]}::text[])
      and (coalesce(done_at, since) not between ${dueAt}::timestamptz and ${now}::timestamptz + interval '1 hour'
        or connection_id = any(${[...urgent]}::text[]))
    order by connection_id = any(${[...urgent]}::text[]) desc, done_at nulls first, connection_id limit 1`.execute(
    db,
  );
  return rows[0]?.connection_id;
}

/** Of these connections, those that a job was never done for. */
export async function neverDone(
  db: Db,
  job: string,
  connectionIds: readonly ConnectionId[],
): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select id as connection_id from unnest(${[...connectionIds]}::text[]) as id
    where not exists (select from ${sql.table('upkeep')} u
      where u.connection_id = id and u.job = ${job} and u.done_at is not null)`.execute(db);
  return rows.map((row) => row.connection_id);
}

/** Notes that a run came to its end.
 * @param startedAt ISO 8601. @param error its kind and code, where it failed. */
export async function noteDone(
  db: Db,
  job: string,
  connectionId: ConnectionId,
  startedAt: string,
  error: string | null,
): Promise<void> {
  await sql`update ${sql.table('upkeep')} set done_at = ${startedAt}::timestamptz, error = ${error}
    where connection_id = ${connectionId} and job = ${job}`.execute(db);
}

/** Of these connections, those that have caught up in their epoch, and are not failing. */
export async function settledAmong(db: Db, connectionIds: readonly ConnectionId[]): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select connection_id from ${sql.table('sync_state')}
    where connection_id = any(${[...connectionIds]}::text[]) and not has_more
      and caught_up_at is not null and last_error_kind is null`.execute(db);
  return rows.map((row) => row.connection_id);
}
