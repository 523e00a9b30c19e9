import { sql } from 'kysely';
import { parks } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { heardWithin } from './workers.ts';

export type ConnectionState =
  | 'starting'
  | 'catching_up'
  | 'live'
  | 'backing_off'
  | 'parked'
  | 'stalled'
  | 'removed';

/** A connection as `status` shows it; every int64 is a string. */
export interface ConnectionStatus {
  readonly connection_id: ConnectionId;
  readonly state: ConnectionState;
  readonly epoch: number;
  readonly cursor: string;
  readonly caught_up_at: string | null;
  /** Now less `caught_up_at`; before the first one, now less `discovered_at`. */
  readonly lag_seconds: number;
  /** What is left before the upstream forgets what is not replicated yet (R17). */
  readonly window_left_seconds: number;
  readonly consecutive_failures: number;
  readonly last_error_kind: string | null;
  readonly last_error: string | null;
  readonly worker: string | null;
  readonly rows: { readonly conversations: string; readonly contacts: string; readonly messages: string };
  readonly quarantined: string;
  /** Gaps that nobody has acknowledged. */
  readonly gaps: string;
  /** The step of the window's alarm (R17). */
  readonly window_alarm: WindowStep | null;
  /** The last comparison with the upstream that came to its end; null before the first. */
  readonly verification: VerificationStatus | null;
}

/** What the last verification found; every int64 is a string. */
export interface VerificationStatus {
  readonly finished_at: string;
  readonly state: 'finished' | 'failed';
  readonly checked: string;
  /** Found to differ, and what of it is not mended. */
  readonly drift: string;
  readonly remaining: string;
  readonly ledger_problems: number;
  readonly error_kind: string | null;
  readonly error: string | null;
}

/** `warn` under half of the window, `error` under a quarter (R17). */
export type WindowStep = 'warn' | 'error';

/** The step of a connection that has `left` of its `window`, in the same unit. */
export function windowStep(left: number, window: number): WindowStep | null {
  if (left < window / 4) return 'error';
  return left < window / 2 ? 'warn' : null;
}

/** A worker that was heard of lately. */
export interface WorkerStatus {
  readonly worker_id: string;
  readonly started_at: string;
  readonly heartbeat_at: string;
  readonly version: string | null;
  readonly host: string | null;
  /** Connections that it holds. */
  readonly connections: number;
}

interface StatusRow {
  connection_id: string;
  epoch: number;
  cursor: string;
  caught_up_at: Date | null;
  lag_seconds: number;
  consecutive_failures: number;
  last_error_kind: string | null;
  last_error: string | null;
  worker: string | null;
  polled: boolean;
  /** Whether there is more to fetch, as far as is known. */
  behind: boolean;
  removed: boolean;
  stored_conversations: string;
  stored_contacts: string;
  stored_messages: string;
  quarantined: string;
  gaps: string;
  verified_at: Date | null;
  verification_state: 'finished' | 'failed';
  checked: string;
  drift: string;
  remaining: string;
  ledger_problems: number;
  verification_error_kind: string | null;
  verification_error: string | null;
}

/**
 * Where every connection stands, from the database alone: no daemon has to run for it.
 * @param window RETENTION_WINDOW in milliseconds.
 */
export async function readConnections(db: Db, window: number): Promise<ConnectionStatus[]> {
  const { rows } = await sql<StatusRow>`
    select c.connection_id, s.epoch, s.cursor, s.caught_up_at,
      extract(epoch from clock_timestamp() - coalesce(s.caught_up_at, c.discovered_at))::float8 as lag_seconds,
      s.consecutive_failures, s.last_error_kind, s.last_error,
      case when s.lease_expires_at > clock_timestamp() then s.lease_owner end as worker,
      s.last_polled_at is not null as polled, c.removed_at is not null as removed,
      s.has_more or s.caught_up_at is null as behind,
      s.stored_conversations, s.stored_contacts, s.stored_messages,
      coalesce(q.open, 0) as quarantined, coalesce(g.open, 0) as gaps,
      v.finished_at as verified_at, v.state as verification_state, v.checked, v.drift, v.remaining, v.ledger_problems,
      v.error_kind as verification_error_kind, v.error as verification_error
    from ${sql.table('connections')} c
    join ${sql.table('sync_state')} s using (connection_id)
    left join (select connection_id, count(*) as open from ${sql.table('quarantine')}
      where resolved_at is null group by connection_id) q using (connection_id)
    left join (select connection_id, count(*) as open from ${sql.table('gaps')}
      where acknowledged_at is null group by connection_id) g using (connection_id)
    left join lateral (select * from ${sql.table('verifications')} l
      where l.connection_id = c.connection_id and l.state in ('finished', 'failed') and l.since is null
      order by l.verification_id desc limit 1) v on true
    order by c.connection_id`.execute(db);
  return rows.map((row) => toStatus(row, window));
}

/** The workers that were heard of within `ttl` milliseconds. */
export async function readWorkers(db: Db, ttl: number): Promise<WorkerStatus[]> {
  const { rows } = await sql<{
    worker_id: string;
    started_at: Date;
    heartbeat_at: Date;
    version: string | null;
    host: string | null;
    connections: number;
  }>`
    select w.worker_id, w.started_at, w.heartbeat_at, w.version, w.host,
      (select count(*)::integer from ${sql.table('sync_state')} s
        where s.lease_owner = w.worker_id and s.lease_expires_at > clock_timestamp()) as connections
    from ${sql.table('workers')} w
    where ${heardWithin(ttl)}
    order by w.started_at, w.worker_id`.execute(db);
  return rows.map((row) => ({
    ...row,
    started_at: row.started_at.toISOString(),
    heartbeat_at: row.heartbeat_at.toISOString(),
  }));
}

function toStatus(row: StatusRow, window: number): ConnectionStatus {
  const lag = Math.max(0, row.lag_seconds);
  return {
    connection_id: row.connection_id,
    state: stateOf(row),
    epoch: row.epoch,
    cursor: row.cursor,
    caught_up_at: row.caught_up_at?.toISOString() ?? null,
    lag_seconds: Math.round(lag * 1000) / 1000,
    window_left_seconds: Math.round(window / 1000 - lag),
    consecutive_failures: row.consecutive_failures,
    last_error_kind: row.last_error_kind,
    last_error: row.last_error,
    worker: row.worker,
    rows: {
      conversations: row.stored_conversations,
      contacts: row.stored_contacts,
      messages: row.stored_messages,
    },
    quarantined: row.quarantined,
    gaps: row.gaps,
    window_alarm: row.removed ? null : windowStep(window / 1000 - lag, window / 1000),
    verification:
      row.verified_at === null
        ? null
        : {
            finished_at: row.verified_at.toISOString(),
            state: row.verification_state,
            checked: row.checked,
            drift: row.drift,
            remaining: row.remaining,
            ledger_problems: row.ledger_problems,
            error_kind: row.verification_error_kind,
            error: row.verification_error,
          },
  };
}

function stateOf(row: StatusRow): ConnectionState {
  if (row.removed) return 'removed';
  if (row.last_error_kind !== null) {
    if (parks(row.last_error_kind)) return 'parked';
    return row.last_error_kind === 'stalled' ? 'stalled' : 'backing_off';
  }
  if (!row.polled) return 'starting';
  return row.behind ? 'catching_up' : 'live';
}
