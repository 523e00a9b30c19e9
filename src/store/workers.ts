import { type RawBuilder, sql } from 'kysely';
import type { Db } from './database.ts';
import { interval } from './interval.ts';

export interface WorkerInfo {
  readonly workerId: string;
  readonly version: string;
  readonly host: string;
}

/** Says that a worker is alive; registers it at the first call. */
export async function heartbeat(db: Db, worker: WorkerInfo): Promise<void> {
  await sql`insert into ${sql.table('workers')} as w (worker_id, version, host)
    values (${worker.workerId}, ${worker.version}, ${worker.host})
    on conflict (worker_id) do update set heartbeat_at = clock_timestamp()`.execute(db);
}

/** SQL, of `workers`: whether one was heard of within `ms` milliseconds. One that was heard of later than now died before
 * the database's clock was put back: who lives says so again within that time. */
export function heardWithin(ms: number): RawBuilder<boolean> {
  return sql`heartbeat_at between clock_timestamp() - ${interval(ms)} and clock_timestamp() + ${interval(ms)}`;
}

/** Takes a worker that ends from the list. */
export async function signOff(db: Db, workerId: string): Promise<void> {
  await db.deleteFrom('workers').where('worker_id', '=', workerId).execute();
}

/** Removes workers that have not been heard of for `days`. They died without signing off.
 * @returns how many. */
export async function forgetDeadWorkers(db: Db, days: number): Promise<number> {
  const result = await sql`delete from ${sql.table('workers')}
    where heartbeat_at < now() - make_interval(days => ${days}::integer)`.execute(db);
  return Number(result.numAffectedRows ?? 0n);
}
