import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** What a process that waits for another's work looks at. */
export interface Progress {
  /** Whether a request that began after `since` ended with nothing more to fetch. */
  readonly caughtUp: boolean;
  readonly leased: boolean;
  /** Whether a turn has failed since, and the next is not due yet; not one that had begun when the connection was made
   * due. */
  readonly failedSince: boolean;
  /** Whether `since` is later than now: the database's clock was put back, and nothing would be since for long. */
  readonly putBack: boolean;
  readonly failures: number;
  readonly lastErrorKind: string | null;
  readonly lastError: string | null;
}

/** The database's time, as text with microseconds, to compare with later. */
export async function databaseTime(db: Db): Promise<string> {
  const { rows } = await sql<{ at: string }>`select clock_timestamp()::text as at`.execute(db);
  return rows[0]!.at;
}

/** How far a connection is, seen from `since` (a time of the database). */
export async function readProgress(
  db: Db,
  connectionId: ConnectionId,
  since: string,
): Promise<Progress | undefined> {
  const { rows } = await sql<{
    caught_up: boolean;
    leased: boolean;
    failed_since: boolean;
    put_back: boolean;
    failures: number;
    last_error_kind: string | null;
    last_error: string | null;
  }>`
    select coalesce(caught_up_at between ${since}::timestamptz and clock_timestamp(), false) as caught_up,
      lease_owner is not null and lease_expires_at > clock_timestamp() as leased,
      -- of a turn that had begun before, noteFailure leaves the time that the connection was made due at; so does who makes
      -- it due again
      coalesce(last_error_kind is not null and last_polled_at between ${since}::timestamptz and clock_timestamp()
        and next_poll_at > clock_timestamp(), false) as failed_since,
      ${since}::timestamptz > clock_timestamp() as put_back,
      consecutive_failures as failures, last_error_kind, last_error
    from ${sql.table('sync_state')} where connection_id = ${connectionId}`.execute(db);
  const row = rows[0];
  return (
    row && {
      caughtUp: row.caught_up,
      leased: row.leased,
      failedSince: row.failed_since,
      putBack: row.put_back,
      failures: row.failures,
      lastErrorKind: row.last_error_kind,
      lastError: row.last_error,
    }
  );
}
