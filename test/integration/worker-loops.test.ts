import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { EVENT_SPACING } from '../../src/sync/doorbell.ts';
import type { Worker } from '../../src/sync/worker.ts';
import { useTestDatabase } from '../support/database.ts';
import { createReplica, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 60, connections: ['conn_a', 'conn_b', 'conn_c'] });
});
afterAll(() => simulator.close());

/** A worker all of whose connections have caught up and rest; nobody claims leases but here. */
async function atRest(): Promise<Worker> {
  const times = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', REQUEST_TIMEOUT: '2m', LEASE_TTL: '2m' };
  const replica = await createReplica({ ...quickSettings(database.url, simulator.url), ...times });
  const { worker, workerOptions, control, directory } = replica;
  onTestFinished(async () => {
    await worker.stop();
    await replica.close();
  });
  worker.start();
  const claimedAt = performance.now();
  const leases = await claimLeases(control, worker.id, directory.connections, workerOptions.leaseTtl, 3);
  // Whatever they were due at.
  for (const lease of leases) void worker.adopt({ ...lease, dueIn: 0 }, claimedAt);
  const rests = ({ dueAt }: { dueAt: number }) =>
    Number.isFinite(dueAt) && dueAt > performance.now() + 60_000;
  await waitFor(() => worker.held.length === 3 && worker.health.every(rests), { what: 'all to rest' });
  return worker;
}

test('leases that go to others are of connections at rest first, and count no more at once', async () => {
  const worker = await atRest();
  const busy = worker.held[0]!;
  simulator.faults.script({ kind: 'hang' }, 1, { route: 'sync', connection: busy });
  worker.wake(busy);
  await waitFor(() => simulator.faults.scripted === 0, { what: 'one to be at work' });
  worker.yieldLeases(2);
  expect([worker.size, worker.held.length]).toEqual([1, 3]);
  await waitFor(() => worker.held.length === 1, { what: 'two to go' });
  expect(worker.held).toEqual([busy]);
});

test('however many events come, they make few polls', async () => {
  const worker = await atRest();
  let polls = 0;
  simulator.stats.onRequest = ({ route, connection }) => {
    if (route === 'sync' && connection === 'conn_a') polls++;
  };
  const begun = performance.now();
  const often = () => {
    worker.wake('conn_a');
    return polls >= 5;
  };
  await waitFor(often, { what: 'five polls' });
  // A timer may fire a moment early.
  expect(performance.now() - begun).toBeGreaterThan(4 * (EVENT_SPACING - 3));
});
