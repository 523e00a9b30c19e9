import { type RawBuilder, sql } from 'kysely';
import { Alarm } from '../lib/wait.ts';
import type { Db } from './database.ts';

/** How long a session waits before somebody is told, and how often is looked, in milliseconds. */
const LOOK_EVERY = 3_000;

/** How many holders of locks are named. */
const MOST = 3;

interface Holder {
  /** 0: a prepared transaction. */
  readonly pid: number;
  readonly name: string | null;
  /** Whether it does nothing, and since when it has its transaction, in seconds; null where this role may not see it. */
  readonly idle: boolean | null;
  readonly seconds: number | null;
}

/**
 * Tells whom sessions wait for, once they have waited for some seconds, and again where that has changed: until the
 * signal. What a lock is waited for behind may be a dump, or a session that somebody forgot, and last for hours.
 * @param sessions SQL: their process ids, as an array of integers.
 * @param db where a connection comes free meanwhile; without one nothing is told.
 * @param tell is given what completes "waiting for …".
 */
export async function tellOfHolders(
  db: Db,
  sessions: RawBuilder<unknown>,
  tell: (holders: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const alarm = new Alarm();
  let told = '';
  while ((await alarm.sleep(LOOK_EVERY, signal)) !== 'aborted') {
    // What is told is a help: what waits goes on without it.
    const holders = await holdersOf(db, sessions).catch(() => []);
    const who = holders.map(({ pid }) => pid).join();
    if (signal.aborted || who === told) continue;
    told = who;
    if (holders.length > 0) tell(`a lock of ${holders.map(describe).join(', ')}`);
  }
}

/** Who has the locks that these sessions wait for, or waits for them before them; the oldest transactions first. */
async function holdersOf(db: Db, sessions: RawBuilder<unknown>): Promise<Holder[]> {
  const { rows } = await sql<Holder>`
    select b.pid, nullif(a.application_name, '') as name, a.state like 'idle%' as idle,
      extract(epoch from clock_timestamp() - a.xact_start)::integer as seconds
    from (select distinct b.pid from unnest(${sessions}) w (pid), unnest(pg_blocking_pids(w.pid)) b (pid)) b
    left join pg_stat_activity a on a.pid = b.pid
    order by a.xact_start nulls last, b.pid limit ${sql.lit(MOST)}`.execute(db);
  return rows;
}

function describe({ pid, name, idle, seconds }: Holder): string {
  if (pid === 0) return 'a prepared transaction';
  const what = [
    ...(name === null ? [] : [name]),
    ...(seconds === null ? [] : [`${idle ? 'idle in' : 'in'} a transaction for ${seconds} s`]),
  ];
  return `session ${pid}${what.length === 0 ? '' : ` (${what.join(', ')})`}`;
}
