import { type RawBuilder, sql } from 'kysely';
import type { ErrorKind } from '../errors/errors.ts';
import type { ConnectionId, Cursor } from '../model.ts';
import { numberAfter } from './changes.ts';
import type { Db } from './database.ts';
import { unlessDueSince } from './due.ts';
import { interval } from './interval.ts';
import type { Position } from './state.ts';

/** A page as the ledger keeps it. */
export interface LedgerEntry {
  readonly conversations: number;
  readonly contacts: number;
  readonly messages: number;
  readonly quarantined: number;
  readonly bodySha256: string;
  readonly worker: string;
}

/** What a poll that went well leaves behind, whatever it brought. Times are in milliseconds. */
export interface Polled {
  /** Since the request began, when the statement is sent, which may wait; database time then less this is `caught_up_at`, so
   * that no clock of ours counts. */
  readonly requestedAgo: number;
  /** Nothing more is waiting. */
  readonly caughtUp: boolean;
  /** Until the next poll, where nothing more is waiting. */
  readonly nextPollIn: number;
  readonly leaseTtl: number;
  /** The upstream's memory, RETENTION_WINDOW. */
  readonly window: number;
}

/** The same of a page. */
export interface Advance extends Polled {
  readonly to: Cursor;
  readonly changed: boolean;
  /** Rows were written that the change feed was not told of. */
  readonly untold: boolean;
  readonly inserted: Readonly<Record<'conversations' | 'contacts' | 'messages', number>>;
}

/** What the upstream forgot before it was replicated. */
export interface Gap {
  readonly from: Date;
  readonly to: Date;
}

/**
 * Moves the cursor by compare-and-set on `(epoch, cursor, lease_term)` and, where it moves, writes the ledger row,
 * in one statement (R1). `next_poll_at` keeps an earlier time that somebody set while the turn ran. A catch-up that
 * comes after the window has passed records the gap with it, so that no crash can lose it (R17).
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
        ${polled(move)},
        last_changed_at = case when ${move.changed}::boolean then clock_timestamp() else last_changed_at end,
        last_change_no = ${numberAfter(move.untold)},
        stored_conversations = stored_conversations + ${inserted.conversations}::integer,
        stored_contacts = stored_contacts + ${inserted.contacts}::integer,
        stored_messages = stored_messages + ${inserted.messages}::integer,
        beside_conversations = beside_conversations + ${beside(inserted.conversations)}::integer,
        beside_contacts = beside_contacts + ${beside(inserted.contacts)}::integer,
        beside_messages = beside_messages + ${beside(inserted.messages)}::integer
      where ${stands(connectionId, at)}
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
        ${move.to.toString()}::bigint, ${!move.caughtUp}::boolean, ${ledger.conversations}::integer,
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

/**
 * Notes a poll that brought nothing, by the same compare-and-set: in one statement on one row, since a connection at
 * rest does nothing else.
 * @returns whether it did. It leaves what is more to {@link advance}: another position, or something that the upstream
 * may have forgotten before.
 */
export async function notePoll(
  db: Db,
  connectionId: ConnectionId,
  at: Position,
  poll: Polled,
): Promise<boolean> {
  const { rows } = await sql`
    update ${sql.table('sync_state')} set ${polled(poll)}
    where ${stands(connectionId, at)} and caught_up_at >= clock_timestamp() - ${interval(poll.window)}
    returning 1`.execute(db);
  return rows.length > 0;
}

/** SQL, for `set`: what every poll that went well leaves in the state row. */
function polled({ requestedAgo, caughtUp, nextPollIn, leaseTtl }: Polled): RawBuilder<unknown> {
  const next = sql`case when ${caughtUp}::boolean then clock_timestamp() + ${interval(nextPollIn)} end`;
  return sql`
        caught_up_at = case when ${caughtUp}::boolean
          then statement_timestamp() - ${interval(requestedAgo)} else caught_up_at end,
        last_polled_at = clock_timestamp(),
        has_more = not ${caughtUp}::boolean,
        last_error = null, last_error_kind = null, consecutive_failures = 0,
        -- null: due, and not to be taken for a time that somebody else set
        next_poll_at = ${unlessDueSince(requestedAgo, next)},
        lease_expires_at = clock_timestamp() + ${interval(leaseTtl)}`;
}

/** SQL, of `sync_state`: the row, as long as nobody else has moved the cursor or taken the lease. */
function stands(connectionId: ConnectionId, { epoch, cursor, term }: Position): RawBuilder<boolean> {
  return sql`connection_id = ${connectionId} and epoch = ${epoch} and cursor = ${cursor.toString()}::bigint
        and lease_term = ${term}::bigint`;
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
