import { type RawBuilder, sql } from 'kysely';
import type { ErrorKind } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { isOver } from './clock.ts';
import type { Db } from './database.ts';
import { interval } from './interval.ts';
import type { Position } from './state.ts';
import { heardWithin } from './workers.ts';

/** A connection that a worker holds, as Postgres gave it. */
export interface Lease extends Position {
  readonly connectionId: ConnectionId;
  /** Until the next poll is due, in milliseconds; not above 0 where it is. */
  readonly dueIn: number;
  readonly failures: number;
  /** How the last turn failed; null where it went well. */
  readonly failure: ErrorKind | null;
  /** Whether the lease was taken from a worker that let it expire. */
  readonly takenOver: boolean;
}

/** A lease as a renewal found it. */
export interface Renewed {
  readonly connectionId: ConnectionId;
  readonly term: string;
  readonly dueIn: number;
}

const dueIn = sql<number>`coalesce(extract(epoch from s.next_poll_at - clock_timestamp()) * 1000, 0)::float8`;

const NEXT_TERM = sql.raw(
  'greatest(lease_term + 1, floor(extract(epoch from clock_timestamp()) * 1000000)::bigint)',
);

/** SQL, of `sync_state`: whether nobody holds it. Who lives renews a lease by what the clock says now. */
const IS_FREE = sql.raw(`(lease_owner is null or lease_expires_at is null or ${isOver('lease_expires_at')})`);

/** SQL, of `sync_state s`: whether its holder, by its last heartbeat, lived when the database's clock was ahead of now. One
 * that has none, as of a pass, renewed the lease then, if that lasts longer than any from now. Who still lives says so
 * again at the next renewal. */
function isHeldAhead(ttl: number): RawBuilder<boolean> {
  return sql`not ${IS_FREE} and coalesce(
    (select w.heartbeat_at from ${sql.table('workers')} w where w.worker_id = s.lease_owner), s.lease_expires_at
  ) > clock_timestamp() + ${interval(ttl)}`;
}

/**
 * Takes leases that nobody holds, or whose holder let them expire; database time decides (R15). Rows that another
 * has locked are skipped. Every taking raises the term, which fences the holder before; to the time, in microseconds
 * (two takings can have one millisecond), so that no term comes again where the database has forgotten a taking: a
 * standby was promoted, or a backup restored.
 * @param ttl milliseconds.
 * @param ahead takes those, too, that {@link LeaseSituation.ahead} counts.
 */
export async function claimLeases(
  db: Db,
  workerId: string,
  connectionIds: readonly ConnectionId[],
  ttl: number,
  most: number,
  ahead = false,
): Promise<Lease[]> {
  const table = sql.table('sync_state');
  const { rows } = await sql<{
    connection_id: string;
    epoch: number;
    numbering: number;
    cursor: string;
    lease_term: string;
    due_in: number;
    consecutive_failures: number;
    last_error_kind: ErrorKind | null;
    taken_over: boolean;
  }>`
    with free as (
      select connection_id, lease_owner from ${table} s
      where connection_id = any(${[...connectionIds]}::text[])
        and (${IS_FREE} or ${ahead}::boolean and ${isHeldAhead(ttl)})
      order by next_poll_at nulls first, connection_id
      limit ${most}
      for update skip locked
    )
    update ${table} s set lease_owner = ${workerId}, lease_term = ${NEXT_TERM},
      lease_expires_at = clock_timestamp() + ${interval(ttl)}
    from free where s.connection_id = free.connection_id
    returning s.connection_id, s.epoch, s.numbering, s.cursor, s.lease_term, ${dueIn} as due_in,
      s.consecutive_failures, s.last_error_kind, free.lease_owner is not null as taken_over`.execute(db);
  return rows.map((row) => ({
    connectionId: row.connection_id,
    epoch: row.epoch,
    numbering: row.numbering,
    cursor: BigInt(row.cursor),
    term: row.lease_term,
    dueIn: row.due_in,
    failures: row.consecutive_failures,
    failure: row.last_error_kind,
    takenOver: row.taken_over,
  }));
}

/** Of these connections, those that nobody holds and nobody can take: somebody has locked the row, for something else. */
export async function lockedLeases(db: Db, connectionIds: readonly ConnectionId[]): Promise<ConnectionId[]> {
  const free = sql`select connection_id from ${sql.table('sync_state')}
        where connection_id = any(${[...connectionIds]}::text[]) and ${IS_FREE}`;
  const { rows } = await sql<{ connection_id: string }>`
    with open as (${free} for no key update skip locked)
    select f.connection_id from (${free}) f
    where f.connection_id not in (select o.connection_id from open o) order by 1`.execute(db);
  return rows.map((row) => row.connection_id);
}

/**
 * Renews all leases of a worker in one statement. Rows that are locked (by the worker's own page, which extends
 * its lease itself) are skipped and missing from the result; so are leases that are lost.
 * @param ttl milliseconds.
 */
export async function renewLeases(db: Db, workerId: string, ttl: number): Promise<Renewed[]> {
  const table = sql.table('sync_state');
  const { rows } = await sql<{ connection_id: string; lease_term: string; due_in: number }>`
    with held as (
      select connection_id from ${table} where lease_owner = ${workerId} for update skip locked
    )
    update ${table} s set lease_expires_at = clock_timestamp() + ${interval(ttl)}
    from held where s.connection_id = held.connection_id
    returning s.connection_id, s.lease_term, ${dueIn} as due_in`.execute(db);
  return rows.map((row) => ({ connectionId: row.connection_id, term: row.lease_term, dueIn: row.due_in }));
}

/** A lease that is given back, so that another worker may take it at once. */
export interface Returned {
  readonly connectionId: ConnectionId;
  readonly term: string;
  /** Whether the next holder shall poll at once. */
  readonly due: boolean;
}

/**
 * Gives leases back. Does nothing for those whose term is over.
 * @param locked what is done about rows that somebody has locked: waited for, or nothing.
 * @returns the connections of which it was done.
 */
export async function releaseLeases(
  db: Db,
  leases: readonly Returned[],
  locked: 'wait' | 'skip' = 'skip',
): Promise<ReadonlySet<ConnectionId>> {
  const table = sql.table('sync_state');
  const ids = leases.map((one) => one.connectionId);
  const terms = leases.map((one) => one.term);
  const dues = leases.map((one) => one.due);
  const { rows } = await sql<{ connection_id: string }>`
    with given as (
      select s.connection_id, g.due
      from unnest(${ids}::text[], ${terms}::bigint[], ${dues}::boolean[]) as g (connection_id, term, due)
      join ${table} s on s.connection_id = g.connection_id and s.lease_term = g.term
      for update of s ${sql.raw(locked === 'skip' ? 'skip locked' : '')}
    )
    update ${table} s set lease_owner = null, lease_expires_at = null,
      next_poll_at = case when given.due then clock_timestamp() else s.next_poll_at end
    from given where s.connection_id = given.connection_id
    returning s.connection_id`.execute(db);
  return new Set(rows.map((row) => row.connection_id));
}

/** How the leases stand, seen by one worker. */
export interface LeaseSituation {
  /** Workers alive that take leases, this one included. */
  readonly workers: number;
  /** Connections that nobody holds. */
  readonly free: number;
  /** Those whose holder was last heard of, or has renewed them, later than now: the database's clock was put back, and
   * the holder is dead where it stays so for a lease time. */
  readonly ahead: number;
}

/** Share of the lease time after which a worker that was not heard of counts as dead: before its leases run out, so
 * that the others' shares have grown when they do. */
const ALIVE = 0.75;

/** Counts workers and free leases among the connections. */
export async function leaseSituation(
  db: Db,
  connectionIds: readonly ConnectionId[],
  ttl: number,
): Promise<LeaseSituation> {
  const { rows } = await sql<LeaseSituation>`
    select
      (select count(*)::integer from ${sql.table('workers')}
        where ${heardWithin(ttl * ALIVE)}) as workers,
      count(*) filter (where ${IS_FREE})::integer as free,
      count(*) filter (where ${isHeldAhead(ttl)})::integer as ahead
    from ${sql.table('sync_state')} s where connection_id = any(${[...connectionIds]}::text[])`.execute(db);
  return rows[0]!;
}
