import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** How many minutes of activity are shown. */
const ACTIVITY_MINUTES = 60;

/** Records per minute, the oldest first, by connection. */
export type Activity = ReadonlyMap<ConnectionId, readonly number[]>;

/** Records per minute and connection over the last hour, from the ledger. */
export async function readActivity(db: Db): Promise<Activity> {
  const { rows } = await sql<{ connection_id: string; minute: number; records: number }>`
    select connection_id,
      floor(extract(epoch from now() - applied_at) / 60)::integer as minute,
      sum(conversations + contacts + messages)::integer as records
    from ${sql.table('sync_pages')}
    where applied_at > now() - make_interval(mins => ${ACTIVITY_MINUTES}::integer)
    group by 1, 2`.execute(db);
  const activity = new Map<ConnectionId, number[]>();
  for (const { connection_id, minute, records } of rows) {
    const minutes = activity.get(connection_id) ?? new Array<number>(ACTIVITY_MINUTES).fill(0);
    const at = ACTIVITY_MINUTES - 1 - Math.min(Math.max(minute, 0), ACTIVITY_MINUTES - 1);
    minutes[at] = minutes[at]! + records;
    activity.set(connection_id, minutes);
  }
  return activity;
}
