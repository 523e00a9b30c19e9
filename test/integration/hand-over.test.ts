import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { makeDueUnlessLocked } from '../../src/store/due.ts';
import { WakeUp } from '../../src/sync/wake-up.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

/* An event that comes while a connection changes hands is a hint all the same: the next holder acts on it. */

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
const workers: TestWorker[] = [];

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await simulator.close();
});

/** A worker that polls once an hour. */
async function start(more: Record<string, string> = {}): Promise<TestWorker> {
  const never = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' };
  const worker = await startWorker(
    { ...quickSettings(database.url, simulator.url), ...never, ...more },
    { discovers: false },
  );
  workers.push(worker);
  return worker;
}

const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });

test('an event before the loop is given away', async () => {
  const { worker } = await start();
  await replicated();
  simulator.world.applyChanges(10);
  worker.wake('conn_a');
  worker.yieldLeases(1);
  await replicated();
});

test('an event whose poll is cut off by giving the loop away', async () => {
  const { worker } = await start();
  await replicated();
  simulator.faults.script({ kind: 'hang' }, 1, { route: 'sync' });
  worker.wake('conn_a');
  await waitFor(() => simulator.stats.inFlight('conn_a') === 1, { what: 'the poll' });
  simulator.world.applyChanges(10);
  worker.yieldLeases(1);
  await replicated();
});

test('an event for a loop that is about to end goes to whoever holds the connection next', async () => {
  const { worker, control } = await start();
  await replicated();
  simulator.world.applyChanges(10);
  worker.yieldLeases(1);
  expect(worker.wake('conn_a')).toBe(false);
  await new WakeUp(control, worker).wake(['conn_a']);
  await replicated();
});

test('an event while the worker ends', async () => {
  const first = await start();
  await replicated();
  simulator.world.applyChanges(10);
  const stopped = first.stop();
  workers.pop();
  first.worker.wake('conn_a');
  await stopped;
  await start();
  await replicated();
});

test('without an event nothing is polled before its time', async () => {
  const { worker } = await start();
  await replicated();
  const polls = () => simulator.stats.recent.filter(({ route }) => route === 'sync').length;
  const before = polls();
  worker.yieldLeases(1);
  await waitFor(() => worker.size === 0, { what: 'the lease to be given back' });
  await waitFor(() => worker.size === 1, { what: 'the lease to be taken again' });
  const taken = `select from whatsapp.sync_state where lease_owner is not null and next_poll_at > now() + interval '50 minutes'`;
  expect(await database.query(taken)).toHaveLength(1);
  expect(polls()).toBe(before);
});

test('a lease that the worker has no more, at the same term, is given up and had again', async () => {
  const { worker, told } = await start();
  await replicated();
  await database.query('update whatsapp.sync_state set lease_owner = null, lease_expires_at = null');
  await waitFor(() => told('lease_taken').length === 2, { what: 'the lease' });
  expect(told('lease_lost')).toEqual(['conn_a']);
  simulator.world.applyChanges(10);
  worker.wake('conn_a');
  await replicated();
});

test('a lease of the worker without a loop, which could not be given back, is given back at the second look', async () => {
  // It renews when it is told to, and ends that with its heartbeat.
  const { worker } = await start({ LEASE_TTL: '1h' });
  const heartbeat = async () => (await database.query('select heartbeat_at::text from whatsapp.workers'))[0]!;
  const renew = async () => {
    const { heartbeat_at: before } = await heartbeat();
    worker.renewNow();
    await waitFor(async () => (await heartbeat()).heartbeat_at !== before, { what: 'the renewal' });
  };
  await replicated();
  await ensureConnections(database.db, ['conn_b']);
  const mine = `update whatsapp.sync_state set lease_owner = $1, lease_expires_at = now() + interval '1 hour'
    where connection_id = 'conn_b'`;
  await database.query(mine, [worker.id]);
  const owner = async () =>
    (await database.query(`select lease_owner from whatsapp.sync_state where connection_id = 'conn_b'`))[0]!
      .lease_owner;
  // One that was just claimed gets its loop in a moment.
  await renew();
  expect(await owner()).toBe(worker.id);
  await renew();
  expect(await owner()).toBeNull();
  expect(worker.held).toEqual(['conn_a']);
});

test('a renewal that was asked for and failed is made up for at the next look, however long leases last', async () => {
  const { worker, events } = await start({ LEASE_TTL: '1h' });
  await replicated();
  simulator.world.applyChanges(10);
  await makeDueUnlessLocked(database.db, ['conn_a']);
  await database.query('alter table whatsapp.sync_state rename to away');
  const failures = () => events.filter(({ type }) => type === 'worker_failed').length;
  const before = failures();
  worker.renewNow();
  // The first may be of a look that had begun before.
  await waitFor(() => failures() >= before + 2, { what: 'the renewal to fail' });
  await database.query('alter table whatsapp.away rename to sync_state');
  await replicated();
});
