import { sql } from 'kysely';
import type { ErrorKind } from '../errors.ts';
import type { ConnectionId, Cursor } from '../model.ts';
import { numberAfter } from './changes.ts';
import type { Db } from './database.ts';
import { unlessDueSince } from './due.ts';
import { interval } from './interval.ts';
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

/** A page as the ledger keeps it. */
export interface LedgerEntry {
  readonly hasMore: boolean;
  readonly conversations: number;
  readonly contacts: number;
  readonly messages: number;
  readonly quarantined: number;
  readonly bodySha256: string;
  readonly worker: string;
}

/** What a turn that went well leaves behind. Times are in milliseconds before now. */
export interface Advance {
  readonly to: Cursor;
  /** Since the request began; database time less this is `caught_up_at`, so that no clock of ours counts. */
  readonly requestedAgo: number;
  readonly caughtUp: boolean;
  readonly changed: boolean;
  /** Rows were written that the change feed was not told of. */
  readonly untold: boolean;
  readonly inserted: Readonly<Record<'conversations' | 'contacts' | 'messages', number>>;
  /** Until the next poll, where nothing more is waiting. */
  readonly nextPollIn: number;
  readonly leaseTtl: number;
  /** The upstream's memory, RETENTION_WINDOW. */
  readonly window: number;
}

/** What the upstream forgot before it was replicated. */
export interface Gap {
  readonly from: Date;
  readonly to: Date;
}

/**
 * Moves the cursor by compare-and-set on `(epoch, cursor, lease_term)` and, where it moves, writes the ledger row,
 * in one statement (R1). A poll that brought nothing new only notes that it was made. `next_poll_at` keeps an
 * earlier time that somebody set while the turn ran. A catch-up that comes after the window has passed records the gap
 * with it, so that no crash can lose it (R17).
 * @returns the gap, where there is a new one; false where another has moved the cursor or taken the lease: nothing was
 * written then.
 */
export async function advance(
  db: Db,
  connectionId: ConnectionId,
  at: Position,
  move: Advance,
  ledger: LedgerEntry,
): Promise<{ readonly gap: Gap | undefined } | false> {
  const moved = move.to !== at.cursor;
  const { inserted } = move;
  const from = at.cursor.toString();
  const beside = (count: number) => (moved ? 0 : count);
  const { rows } = await sql<{ gap_from: Date | null; gap_to: Date | null }>`
    with before as (
      select s.caught_up_at, coalesce(s.caught_up_at, c.discovered_at) as since
      from ${sql.table('sync_state')} s left join ${sql.table('connections')} c using (connection_id)
      where s.connection_id = ${connectionId}
    ), state as (
      update ${sql.table('sync_state')} set
        cursor = ${move.to.toString()}::bigint,
        caught_up_at = case when ${move.caughtUp}::boolean
          then clock_timestamp() - ${interval(move.requestedAgo)} else caught_up_at end,
        last_polled_at = clock_timestamp(),
        last_changed_at = case when ${move.changed}::boolean then clock_timestamp() else last_changed_at end,
        has_more = ${ledger.hasMore}::boolean,
        last_change_no = ${numberAfter(move.untold)},
        last_error = null, last_error_kind = null, consecutive_failures = 0,
        -- null: due, and not to be taken for a time that somebody else set
        next_poll_at = ${unlessDueSince(
          move.requestedAgo,
          sql`case when not ${ledger.hasMore}::boolean then clock_timestamp() + ${interval(move.nextPollIn)} end`,
        )},
        lease_expires_at = clock_timestamp() + ${interval(move.leaseTtl)},
        stored_conversations = stored_conversations + ${inserted.conversations}::integer,
        stored_contacts = stored_contacts + ${inserted.contacts}::integer,
        stored_messages = stored_messages + ${inserted.messages}::integer,
        beside_conversations = beside_conversations + ${beside(inserted.conversations)}::integer,
        beside_contacts = beside_contacts + ${beside(inserted.contacts)}::integer,
        beside_messages = beside_messages + ${beside(inserted.messages)}::integer
      where connection_id = ${connectionId} and epoch = ${at.epoch} and cursor = ${from}::bigint
        and lease_term = ${at.term}::bigint
      returning caught_up_at - ${interval(move.window)} as forgotten
    ), gap as (
      insert into ${sql.table('gaps')} (connection_id, gap_from, gap_to, found_by)
      select ${connectionId}, b.since, s.forgotten,
        case when b.caught_up_at is null then 'first_catch_up' else 'catch_up' end
      -- of a page that does not catch up, both are as they were
      from state s cross join before b where b.since < s.forgotten
      returning gap_from, gap_to
    ), page as (
      insert into ${sql.table('sync_pages')} (connection_id, epoch, numbering, cursor_from, cursor_to, has_more,
        conversations, contacts, messages, quarantined, body_sha256, worker)
      select ${connectionId}, ${at.epoch}::integer, ${at.numbering}::integer, ${from}::bigint,
        ${move.to.toString()}::bigint, ${ledger.hasMore}::boolean, ${ledger.conversations}::integer,
        ${ledger.contacts}::integer, ${ledger.messages}::integer, ${ledger.quarantined}::integer,
        ${ledger.bodySha256}, ${ledger.worker}
      from state where ${moved}::boolean
    )
    select gap_from, gap_to from state left join gap on true`.execute(db);
  const [row] = rows;
  if (row === undefined) return false;
  const { gap_from, gap_to } = row;
  return { gap: gap_from === null || gap_to === null ? undefined : { from: gap_from, to: gap_to } };
}

/** What a turn that failed leaves behind, for `status`. No text of foreign origin gets here (R18). */
export interface Failure {
  readonly kind: ErrorKind;
  readonly message: string;
  /** Failures in a row, this one included. */
  readonly failures: number;
  /** Since the turn began, in milliseconds. */
  readonly begunAgo: number;
  /** Milliseconds. */
  readonly nextPollIn: number;
}

/** Notes a failure, where the lease is still ours. `next_poll_at` keeps an earlier time that somebody set while the turn
 * ran: of a resync nothing else may tell. */
export async function noteFailure(
  db: Db,
  connectionId: ConnectionId,
  term: string,
  failure: Failure,
): Promise<void> {
  await sql`
    update ${sql.table('sync_state')} set
      last_polled_at = clock_timestamp(), last_error = ${failure.message}, last_error_kind = ${failure.kind},
      consecutive_failures = ${failure.failures},
      next_poll_at = ${unlessDueSince(failure.begunAgo, sql`clock_timestamp() + ${interval(failure.nextPollIn)}`)}
    where connection_id = ${connectionId} and lease_term = ${term}::bigint`.execute(db);
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
      epoch_started_at = clock_timestamp(), epoch_reason = ${reason},
      last_reset_at = case when ${reason} = 'reset' then clock_timestamp() else last_reset_at end, next_poll_at = clock_timestamp(),
      last_error = null, last_error_kind = null, consecutive_failures = 0
    where connection_id = ${connectionId}`.execute(db);
}

/** Whether the connection was started over without a person within the last hour. */
export async function startedAutomatically(db: Db, connectionId: ConnectionId): Promise<boolean> {
  const { rows } = await sql`
    select from ${sql.table('sync_state')} where connection_id = ${connectionId}
      and last_reset_at > clock_timestamp() - interval '1 hour'`.execute(db);
  return rows.length > 0;
}
