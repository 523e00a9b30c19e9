/* What failed is tried at once by a worker that starts, for whoever starts it may have mended what hindered it. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useFreshDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let worker: TestWorker;

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
});
afterEach(async () => {
  await worker.stop();
  await simulator.close();
});

async function start(): Promise<void> {
  const pauses = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', BACKOFF_MIN: '1h', BACKOFF_MAX: '1h' };
  const env = { ...quickSettings(database.url, simulator.url), ...pauses };
  worker = await startWorker(env, { discovers: false });
}

/** Starts a worker, which fails, and another one after it. */
async function startTwice(fault: Fault): Promise<void> {
  simulator.faults.script(fault, 1, { route: 'sync' });
  await start();
  const failed = 'select from whatsapp.sync_state where consecutive_failures = 1';
  await waitFor(async () => (await database.query(failed)).length === 1, { what: 'the failure' });
  await worker.stop();
  await start();
}

test.each<[what: string, fault: Fault]>([
  ['a key that was refused', { kind: 'answer', status: 401 }],
  ['an answer of something that stood between', { kind: 'answer', status: 200, body: '<html>' }],
])('%s', async (_, fault) => {
  await startTwice(fault);
  await waitFor(() => worker.told('recovered').length === 1, { what: 'it to be tried' });
});

test.each([429, 500, 503])(
  'but not before the time that the upstream asked for with a %i',
  async (status) => {
    await startTwice({ kind: 'answer', status, headers: { 'retry-after': '3600' } });
    const loop = await waitFor(() => worker.worker.health[0], { what: 'the lease' });
    expect(loop.dueAt - performance.now()).toBeGreaterThan(1_800_000);
  },
);
