import { waitFor } from '../support/wait.ts';
import type { Daemon } from './daemon.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';

/** How many connections each worker holds at this moment. */
export async function leases(database: BenchDatabase): Promise<Map<string, number>> {
  const rows = await database.query<{ owner: string; n: number }>(
    `select lease_owner as owner, count(*)::integer as n from ${SCHEMA}.sync_state
      where lease_owner is not null and lease_expires_at > clock_timestamp() group by lease_owner`,
  );
  return new Map(rows.map(({ owner, n }) => [owner, n]));
}

/** Whether every connection is held, and no worker has more than its share. */
async function areEven(
  database: BenchDatabase,
  workers: readonly Daemon[],
  connections: number,
): Promise<boolean> {
  const held = await leases(database);
  const share = Math.ceil(connections / workers.length);
  const counts = workers.map(({ worker }) => (worker === undefined ? 0 : (held.get(worker) ?? 0)));
  return counts.reduce((sum, n) => sum + n, 0) === connections && Math.max(...counts) <= share;
}

export async function untilEven(
  database: BenchDatabase,
  workers: readonly Daemon[],
  connections: number,
): Promise<void> {
  const even = () => areEven(database, workers, connections);
  await waitFor(even, { what: 'the leases to be shared evenly', deadlineMs: 120_000, everyMs: 50 });
}

export async function untilCaughtUp(database: BenchDatabase, connections: number): Promise<void> {
  const caughtUp = async () => {
    const [row] = await database.query<{ n: number }>(
      `select count(*)::integer as n from ${SCHEMA}.sync_state where caught_up_at is not null`,
    );
    return row!.n === connections;
  };
  await waitFor(caughtUp, { what: 'every connection to be caught up', deadlineMs: 600_000, everyMs: 100 });
}
