/** When a loop means to move on, as it judges itself: whether it hangs is told by that. */
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const MINUTE = 60_000;
const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let worker: TestWorker;

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b'], messages: 20 });
  const env = {
    ...quickSettings(database.url, simulator.url),
    ...{ POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '1h', DB_POOL_SIZE: '1' },
  };
  worker = await startWorker(env, { discovers: false });
  await replicated();
});
afterEach(async () => {
  await worker?.stop();
  await simulator?.close();
});

const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });
const dueIn = (id: string) =>
  worker.worker.health.find(({ connectionId }) => connectionId === id)!.dueAt - performance.now();

test('at rest it is due with its next poll', async () => {
  for (const id of ['conn_a', 'conn_b'])
    await waitFor(() => dueIn(id) > 50 * MINUTE && dueIn(id) < 70 * MINUTE, { what: 'the rest' });
});

test('while its page waits for those of others it is due at no time', async () => {
  const polls = (id: string) =>
    simulator.stats.recent.filter(({ route, connection }) => route === 'sync' && connection === id).length;
  const another = new pg.Client({ connectionString: database.url });
  await another.connect();
  try {
    await another.query('begin');
    await another.query(`select from whatsapp.sync_state where connection_id = 'conn_a' for update`);
    simulator.world.applyChanges(10);
    const before = [polls('conn_a'), polls('conn_b')];
    worker.worker.wake('conn_a');
    const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await waitFor(async () => (await database.query(waits)).length === 1, { what: 'the first page' });
    expect(polls('conn_a')).toBe(before[0]! + 1);
    expect(dueIn('conn_a')).toBeLessThanOrEqual(0);
    worker.worker.wake('conn_b');
    await waitFor(() => polls('conn_b') > before[1]!, { what: 'the answer of the second' });
    await waitFor(() => dueIn('conn_b') === Number.POSITIVE_INFINITY, { what: 'it to wait' });
    await another.query('rollback');
  } finally {
    await another.end();
  }
  await replicated();
});
