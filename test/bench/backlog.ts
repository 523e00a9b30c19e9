import { waitFor } from '../support/wait.ts';
import type { Daemon } from './daemon.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { printDaemonProfile, printStatements, resetStatements } from './profile.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';
import type { Upstream } from './upstream.ts';

/** Whatever works off a backlog. */
export interface Worker {
  /** Seconds of CPU so far. */
  cpu(): number;
  /** Rejects where it ends before it is done. */
  readonly died: Promise<never>;
}

/** Longest time for a backlog, in milliseconds. */
const DEADLINE = 3_600_000;

/**
 * Measures a worker from its first request to its last commit, over every connection of the upstream, in messages a
 * second. The first request is when the upstream saw it, the last commit is the greatest `last_polled_at`: two clocks
 * of one machine. So neither a worker's start-up is in the time, nor the watching of it.
 * @param start resolves when it is about to ask for its first page. CPU and WAL count from then on.
 */
export async function measureBacklog(
  { postgres }: Stage,
  upstream: Upstream,
  database: BenchDatabase,
  start: () => Promise<Worker>,
): Promise<Sample> {
  await upstream.mark();
  // A resync has times of an earlier catch-up in its rows.
  const [since] = await database.query<{ now: Date }>('select clock_timestamp() as now');
  const worker = await start();
  const [before] = await database.query<{ lsn: string }>('select pg_current_wal_lsn()::text as lsn');
  const from = { worker: worker.cpu(), postgres: postgres.cpu(), upstream: upstream.cpu() };
  const caughtUp = async () => {
    const [done] = await database.query<{ n: number }>(
      `select count(*)::integer as n from ${SCHEMA}.sync_state where caught_up_at >= $1`,
      [since!.now],
    );
    return done!.n === upstream.connections.length;
  };
  const what = 'every connection to be caught up';
  await Promise.race([waitFor(caughtUp, { what, deadlineMs: DEADLINE, everyMs: 50 }), worker.died]);
  const to = { worker: worker.cpu(), postgres: postgres.cpu(), upstream: upstream.cpu() };
  const [after] = await database.query<{ ended: number; wal: number }>(
    `select extract(epoch from max(last_polled_at))::float8 * 1000 as ended,
      pg_wal_lsn_diff(pg_current_wal_lsn(), $1)::float8 as wal from ${SCHEMA}.sync_state`,
    [before!.lsn],
  );
  const { firstAt, pages } = await upstream.report();
  const seconds = (after!.ended - firstAt) / 1000;
  return {
    value: upstream.messages / seconds,
    details: {
      seconds,
      'Node CPU s': to.worker - from.worker,
      'Postgres CPU s': to.postgres - from.postgres,
      'upstream CPU s': to.upstream - from.upstream,
      'WAL B/message': after!.wal / upstream.messages,
      requests: pages,
    },
  };
}

/**
 * Lets the daemon catch up. It is running afterwards, with nothing to do.
 * @param onStart called when it is about to begin.
 */
export async function catchUp(
  stage: Stage,
  upstream: Upstream,
  database: BenchDatabase,
  env: Readonly<Record<string, string>>,
  onStart: (daemon: Daemon) => void = () => {},
): Promise<{ sample: Sample; daemon: Daemon }> {
  await resetStatements(stage);
  const daemon = stage.daemon(upstream, database, env);
  const sample = await measureBacklog(stage, upstream, database, async () => {
    await daemon.logged('replicating');
    onStart(daemon);
    return daemon;
  });
  return { sample, daemon };
}

/** Stops a daemon that has caught up; tells where its time went, where that is wanted. */
export async function finish(
  stage: Stage,
  daemon: Daemon,
  database: BenchDatabase,
  label: string,
): Promise<void> {
  await printStatements(stage, database, label);
  await daemon.stop();
  printDaemonProfile(stage, daemon.pid, label);
}

/** Pages of one size. */
export function pagesOf(limit: number): Record<string, string> {
  return { PAGE_LIMIT: String(limit), PAGE_LIMIT_MAX: String(limit) };
}
