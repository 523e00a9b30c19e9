import { sql } from 'kysely';
import type { ConnectionId, Cursor } from '../model.ts';
import type { Db } from './database.ts';
import { type Plans, planAnewUnless } from './transaction.ts';

/** Where a connection's replication stands, as `sync_state` has it. */
export interface Position {
  readonly epoch: number;
  readonly numbering: number;
  readonly cursor: Cursor;
  /** The lease's term: rises with every new holder and fences the older ones (R15). */
  readonly term: string;
}

/** Whether nobody has moved the cursor, begun another epoch or taken the lease since. */
export function isAt(state: Position, at: Position): boolean {
  return state.epoch === at.epoch && state.cursor === at.cursor && state.term === at.term;
}

export interface LockedState extends Position, Forgotten {
  readonly hasQuarantine: boolean;
}

/** What is not to be written, as far as the state knows. */
export interface Forgotten {
  /** The fingerprint of the key that suppressions are under; null where nothing was erased. */
  readonly suppressedBy: string | null;
  /** The database's time, in milliseconds since 1970. */
  readonly now: number;
}

/** SQL, of `sync_state`: the column is what the erasure wrote behind this very lock; a connection that is newer than the
 * erasure finds it among those of all connections. */
const keyOfErasures = () => sql`coalesce(suppressed_by,
      (select e.key_fingerprint from ${sql.table('erasures')} e where e.connection_id = '' limit 1))`;
const NOW = sql.raw('(extract(epoch from clock_timestamp()) * 1000)::float8');

/**
 * Locks the connection's state row until the transaction ends: every writer of a connection does (R1, R22).
 * Undefined where the connection is not known.
 * @param plans what `inTransaction` was told. What was put aside or erased takes statements of its own, which are
 * planned anew.
 */
export async function lockState(
  db: Db,
  connectionId: ConnectionId,
  plans: Plans = 'anew',
): Promise<LockedState | undefined> {
  const isPlain = sql`s.suppressed_by is null and not s.has_quarantine`;
  const replan = plans === 'kept where large' ? sql`, ${planAnewUnless(isPlain, sql`s.tableoid`)}` : sql``;
  const { rows } = await sql<
    Omit<LockedState, 'cursor'> & { readonly cursor: string; readonly waited: boolean }
  >`
    select s.epoch, s.numbering, s.cursor, s.term, s.suppressed_by as "suppressedBy", s.now,
      s.has_quarantine as "hasQuarantine", s.waited${replan}
    from (
      select epoch, numbering, cursor, lease_term as term, ${keyOfErasures()} as suppressed_by, ${NOW} as now, tableoid,
        ctid <> (select b.ctid from ${sql.table('sync_state')} b where b.connection_id = ${connectionId}) as waited,
        exists (select from ${sql.table('quarantine')} q
          where q.connection_id = ${connectionId} and q.resolved_at is null) as has_quarantine
      from ${sql.table('sync_state')} where connection_id = ${connectionId} for update
    ) s`.execute(db);
  const row = rows[0];
  if (row === undefined) return undefined;
  // Whoever was waited for has written: the row is as it is now, the other tables are as they were before.
  if (row.waited) return await lockState(db, connectionId, plans);
  const { epoch, numbering, cursor, term, hasQuarantine, suppressedBy, now } = row;
  return { epoch, numbering, cursor: BigInt(cursor), term, hasQuarantine, suppressedBy, now };
}

/** Locks the state rows of several connections, in one order for all who do. @returns those that there are. */
export async function lockStates(db: Db, connectionIds: readonly ConnectionId[]): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select connection_id from ${sql.table('sync_state')}
    where connection_id = any(${[...connectionIds]}::text[]) order by connection_id for update`.execute(db);
  return rows.map((row) => row.connection_id);
}

/** What is not to be written, without a lock. */
export async function readForgotten(db: Db, connectionId: ConnectionId): Promise<Forgotten | undefined> {
  const { rows } = await sql<Forgotten>`
    select ${keyOfErasures()} as "suppressedBy", ${NOW} as now
    from ${sql.table('sync_state')} where connection_id = ${connectionId}`.execute(db);
  return rows[0];
}

/** The stored position, without a lock. @param holder undefined is returned where this worker has no lease of it. */
export async function readPosition(
  db: Db,
  connectionId: ConnectionId,
  holder?: string,
): Promise<Position | undefined> {
  const row = await db
    .selectFrom('sync_state')
    .select(['epoch', 'numbering', 'cursor', 'lease_term'])
    .where('connection_id', '=', connectionId)
    .$if(holder !== undefined, (query) => query.where('lease_owner', '=', holder!))
    .executeTakeFirst();
  return (
    row && { epoch: row.epoch, numbering: row.numbering, cursor: BigInt(row.cursor), term: row.lease_term }
  );
}

/**
 * Starts a connection from cursor 0 again: a new epoch, and a new numbering where the upstream numbers anew (R6).
 * The caller holds the state row's lock.
 */
export async function startEpoch(
  db: Db,
  connectionId: ConnectionId,
  reason: 'resync' | 'reset',
  newNumbering: boolean,
): Promise<void> {
  await sql`
    update ${sql.table('sync_state')} set
      epoch = epoch + 1, numbering = numbering + ${newNumbering ? 1 : 0}::integer, cursor = 0,
      -- until a page says otherwise
      has_more = true,
      epoch_started_at = clock_timestamp(), epoch_reason = ${reason},
      last_reset_at = case when ${reason} = 'reset' then clock_timestamp() else last_reset_at end, next_poll_at = clock_timestamp(),
      last_error = null, last_error_kind = null, consecutive_failures = 0
    where connection_id = ${connectionId}`.execute(db);
}

/** Whether the connection was started over without a person within the last hour. */
export async function startedAutomatically(db: Db, connectionId: ConnectionId): Promise<boolean> {
  const { rows } = await sql`
    select from ${sql.table('sync_state')} where connection_id = ${connectionId}
      -- one of long after now was before the clock was put back
      and last_reset_at between clock_timestamp() - interval '1 hour' and clock_timestamp() + interval '1 hour'`.execute(
    db,
  );
  return rows.length > 0;
}
