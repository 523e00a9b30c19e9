import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

/* Each request uses the key that lists the connection: to any other key it is 404 at the simulator. */

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let worker: TestWorker | undefined;

beforeEach(async () => {
  const keys = [
    { key: 'pa_live_one', connections: ['conn_a', 'conn_b'] },
    { key: 'pa_live_two', connections: ['conn_c'] },
  ];
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b', 'conn_c'], messages: 180, keys });
});
afterEach(async () => {
  await stop();
  await simulator.close();
});

const settings = () => ({
  ...quickSettings(database.url, simulator.url),
  WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two',
});

async function start(env: Record<string, string> = {}): Promise<TestWorker> {
  worker = await startWorker({ ...settings(), ...env }, { discovers: false });
  return worker;
}

async function stop(): Promise<void> {
  await worker?.stop();
  worker = undefined;
}

const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });
const statuses = () =>
  new Set(simulator.stats.recent.filter(({ route }) => route === 'sync').map(({ status }) => status));

test('as the keys list them, also when one moves from key to key', async () => {
  const { look } = await start();
  await replicated();
  expect(statuses()).toEqual(new Set([200]));
  simulator.world.keys.get('pa_live_one')!.connectionIds = ['conn_a'];
  simulator.world.keys.get('pa_live_two')!.connectionIds = ['conn_b', 'conn_c'];
  await look();
  simulator.world.applyChanges(60);
  await replicated();
});

test('as they list those that are named', async () => {
  await start({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a,conn_c' });
  await waitFor(() => worker!.told('page').includes('conn_a') && worker!.told('page').includes('conn_c'), {
    what: 'pages of both',
  });
  expect(worker!.told('page')).not.toContain('conn_b');
  expect(statuses()).toEqual(new Set([200]));
});

test('one that is refused is counted although nothing of it is known, until it is not', async () => {
  simulator.faults.script({ kind: 'answer', status: 200, body: '{"connection_ids":["conn_a"]}' }, 1, {
    route: 'me',
  });
  simulator.faults.script({ kind: 'answer', status: 401 }, 1, { route: 'me' });
  const { discovery, look } = await start();
  expect(discovery.keysFailing).toBe(1);
  await look();
  expect(discovery.keysFailing).toBe(0);
});

test('for a sync of one connection', async () => {
  const { status, stdout } = await runCommand(['sync', '--connection', 'conn_c'], settings());
  expect([status, stdout]).toEqual([0, expect.stringContaining('caught up')]);
  expect(statuses()).toEqual(new Set([200]));
});

test('a sync that cannot ask all keys catches the others up, says so, and does not pass for done', async () => {
  simulator.world.removeKey('pa_live_two');
  const one = await runCommand(['sync'], settings());
  expect(one).toMatchObject({ status: 1, stdout: expect.stringContaining('2/2 connections') });
  expect(one.stderr).toContain('"kind":"unauthorized"');
  expect(one.stderr).toContain('there may be more');
  // Whose key is there, is all that it asked for.
  expect(await runCommand(['sync', '--connection', 'conn_a'], settings())).toMatchObject({ status: 0 });
  const named = { ...settings(), WHATSAPP_USE_CONNECTION_IDS: 'conn_a,conn_b' };
  expect(await runCommand(['sync'], named)).toMatchObject({ status: 0 });
});

test('what the database knows and the others do not list is of the key that does not answer', async () => {
  await start();
  await replicated();
  await stop();
  // The first request is that of the first key.
  simulator.faults.script(
    { kind: 'answer', status: 200, body: '{"connection_ids":["conn_a","conn_b"]}' },
    1,
    {
      route: 'me',
    },
  );
  simulator.faults.script({ kind: 'internal' }, 1, { route: 'me' });
  simulator.world.applyChanges(60);
  await start();
  await replicated();
  expect(statuses()).toEqual(new Set([200]));
});
