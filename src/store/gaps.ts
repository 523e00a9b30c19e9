import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** A span of time of which the upstream forgot messages before they were replicated (R17). */
export interface GapRow {
  readonly gap_id: string;
  readonly connection_id: ConnectionId;
  readonly gap_from: Date;
  readonly gap_to: Date;
  readonly reason: string;
  readonly found_by: string;
  readonly recorded_at: Date;
  readonly acknowledged_at: Date | null;
  readonly note: string | null;
}

const COLUMNS = sql.raw(
  'gap_id, connection_id, gap_from, gap_to, reason, found_by, recorded_at, acknowledged_at, note',
);

/** Gaps, the oldest first. @param all those that were acknowledged, too. */
export async function listGaps(
  db: Db,
  filter: { readonly connection?: string | undefined; readonly all?: boolean | undefined },
): Promise<GapRow[]> {
  const { rows } = await sql<GapRow>`
    select ${COLUMNS} from ${sql.table('gaps')}
    where connection_id = coalesce(${filter.connection ?? null}, connection_id)
      and (${filter.all === true}::boolean or acknowledged_at is null)
    order by gap_id`.execute(db);
  return rows;
}

/** Acknowledges open gaps. @returns the ids of those that were open. */
export async function acknowledgeGaps(
  db: Db,
  ids: readonly string[],
  note: string | null,
): Promise<string[]> {
  const { rows } = await sql<{ gap_id: string }>`
    update ${sql.table('gaps')} set acknowledged_at = clock_timestamp(), note = ${note}
    where gap_id = any(${[...ids]}::bigint[]) and acknowledged_at is null returning gap_id`.execute(db);
  return rows.map((row) => row.gap_id);
}

/**
 * Of these connections, those with a gap that no verification of everything has begun after. One that a command was to
 * make, and that failed, is not the one that follows a gap at once; another that failed waits for the schedule. A gap of
 * a later time than now was recorded before the clock was put back: no verification would ever begin after it.
 */
export async function unverifiedGaps(
  db: Db,
  connectionIds: readonly ConnectionId[],
): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select distinct g.connection_id from ${sql.table('gaps')} g
    where g.connection_id = any(${[...connectionIds]}::text[]) and g.acknowledged_at is null
      and not exists (select from ${sql.table('verifications')} v
        where v.connection_id = g.connection_id and (v.started_at > g.recorded_at or g.recorded_at > clock_timestamp())
          and v.since is null
          and (v.state = 'finished' or v.state = 'failed' and v.cause <> 'command'))`.execute(db);
  return rows.map((row) => row.connection_id);
}
