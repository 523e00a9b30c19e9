/** One pass over many connections: they do not keep each other from the database, nor the renewals of their leases. */
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { poolUse } from '../../src/store/database.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { catchUp } from '../../src/sync/catch-up.ts';
import { useFreshDatabase } from '../support/database.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const FREE = Array.from({ length: 100 }, (_, i) => `free_${i}`);
const HELD = Array.from({ length: 100 }, (_, i) => `held_${i}`);
const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let replica: TestReplica;

beforeEach(async () => {
  simulator = await startSimulator({ connections: [...FREE, ...HELD], messages: 200 });
  replica = await createReplica({ ...quickSettings(database.url, simulator.url), LEASE_TTL: '1h' });
  replica.worker.start();
});
afterEach(async () => {
  await replica.worker.stop();
  await replica.close();
  await simulator.close();
});

test('what is free is taken at once; for what others hold one statement waits at a time', async () => {
  await ensureConnections(database.db, HELD);
  await claimLeases(database.db, 'holder', HELD, 3_600_000, HELD.length);
  const ending = new AbortController();
  let most = 0;
  const looks = setInterval(() => {
    most = Math.max(most, poolUse(replica.control).waiting);
  }, 1);
  onTestFinished(() => clearInterval(looks));
  const passes = catchUp(
    replica.worker,
    replica.workerOptions,
    [...HELD, ...FREE],
    { maxFailures: 5 },
    ending.signal,
  );
  const asked = `select from whatsapp.sync_state where connection_id like 'held%' and next_poll_at is not null`;
  await waitFor(async () => (await database.query(asked)).length === HELD.length, {
    what: 'the holder to be asked for all of them',
  });
  const behind = `select from whatsapp.sync_state where connection_id like 'free%' and caught_up_at is null`;
  await waitFor(async () => (await database.query(behind)).length === 0, { what: 'the free ones' });
  ending.abort();
  const results = await passes;
  expect(results.filter((one) => one.caughtUp).map((one) => one.connectionId)).toEqual(FREE);
  // Some of what returns leases, and of what notes that a worker is there, may come together.
  expect(most).toBeLessThan(HELD.length / 2);
});
