import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { type WindowStep, windowStep } from './status.ts';

/** A connection against the upstream's memory. */
export interface Windowed {
  readonly connectionId: ConnectionId;
  /** Since when something may be missing. */
  readonly since: Date;
  /** Seconds. */
  readonly lag: number;
  readonly step: WindowStep | null;
  /** The step that was told of last. */
  readonly told: WindowStep | null;
  readonly worker: string | null;
  readonly errorKind: string | null;
  readonly error: string | null;
}

/**
 * The connections that are at a step of the window's alarm, or were told to be (R17).
 * @param window RETENTION_WINDOW in milliseconds.
 */
export async function readWindow(db: Db, window: number): Promise<Windowed[]> {
  const { rows } = await sql<Omit<Windowed, 'step'>>`
    select * from (
      select c.connection_id as "connectionId", coalesce(s.caught_up_at, c.discovered_at) as since,
        extract(epoch from clock_timestamp() - coalesce(s.caught_up_at, c.discovered_at))::float8 as lag,
        s.window_alert as told, s.last_error_kind as "errorKind", s.last_error as error,
        case when s.lease_expires_at > clock_timestamp() then s.lease_owner end as worker
      from ${sql.table('connections')} c join ${sql.table('sync_state')} s using (connection_id)
      where c.removed_at is null
    ) w where lag > ${window / 2000}::float8 or told is not null`.execute(db);
  return rows.map((row) => ({ ...row, step: windowStep(window / 1000 - row.lag, window / 1000) }));
}

/** Notes that a step was told of; null: that it is over. */
export async function noteWindowAlert(
  db: Db,
  connectionId: ConnectionId,
  step: WindowStep | null,
): Promise<void> {
  await sql`update ${sql.table('sync_state')} set window_alert = ${step}
    where connection_id = ${connectionId} and window_alert is distinct from ${step}`.execute(db);
}

/** A gap that nobody was sent word of. */
export interface UntoldGap {
  readonly id: string;
  readonly connectionId: ConnectionId;
  readonly from: Date;
  readonly to: Date;
  readonly worker: string | null;
}

/** How many gaps are open, and those that nobody was sent word of; of connections that are replicated. */
export async function readOpenGaps(
  db: Db,
): Promise<{ readonly open: number; readonly untold: readonly UntoldGap[] }> {
  const { rows } = await sql<UntoldGap & { told: boolean }>`
    select g.gap_id as id, g.connection_id as "connectionId", g.gap_from as "from", g.gap_to as "to",
      g.alerted_at is not null as told,
      case when s.lease_expires_at > clock_timestamp() then s.lease_owner end as worker
    from ${sql.table('gaps')} g left join ${sql.table('sync_state')} s using (connection_id)
    where g.acknowledged_at is null and not exists (select from ${sql.table('connections')} c
      where c.connection_id = g.connection_id and c.removed_at is not null)
    order by g.gap_id`.execute(db);
  return { open: rows.length, untold: rows.filter(({ told }) => !told) };
}

/** Notes that word of a gap was sent. */
export async function noteGapAlert(db: Db, { connectionId, id }: UntoldGap): Promise<void> {
  await sql`update ${sql.table('gaps')} set alerted_at = clock_timestamp()
    where connection_id = ${connectionId} and gap_id = ${id}::bigint`.execute(db);
}
