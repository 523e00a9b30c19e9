/** A stranger keeps the row of a connection locked that nobody holds: claims pass over it, and that is told. */
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { claimLeases, lockedLeases } from '../../src/store/leases.ts';
import { startCli } from '../support/cli.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let stranger: pg.Client;
let worker: TestWorker | undefined;

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b'], messages: 20 });
  await ensureConnections(database.db, ['conn_a', 'conn_b']);
  stranger = new pg.Client({ connectionString: database.url });
  await stranger.connect();
  await stranger.query('begin');
  await stranger.query(`select from whatsapp.sync_state where connection_id = 'conn_a' for update`);
});
afterEach(async () => {
  await stranger?.end();
  await worker?.stop();
  worker = undefined;
  await simulator?.close();
});

const settings = () => ({ ...quickSettings(database.url, simulator.url), LEASE_TTL: '1s' });
const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });

test('a worker tells of it, and takes it once the row is free', async () => {
  worker = await startWorker(settings(), { discovers: false });
  const { told, events } = worker;
  // Again and again, as long as it lasts.
  await waitFor(() => events.some((event) => event.type === 'lease_locked' && event.looks === 2), {
    what: 'it to be told twice',
  });
  expect(new Set(told('lease_locked'))).toEqual(new Set(['conn_a']));
  expect(told('lease_taken')).not.toContain('conn_a');
  await stranger.query('rollback');
  await replicated();
});

test('so does one pass, on stderr', async () => {
  const pass = startCli(['sync'], settings());
  await pass.logged('a connection waits: somebody has locked its row');
  expect(pass.stderr).toMatch(/"connection_id":"conn_a".*"hint":"[^"]*pg_prepared_xacts/);
  await stranger.query('rollback');
  expect(await pass.ended).toBe(0);
  await replicated();
});

test('what another worker holds, and what can be taken, is not meant', async () => {
  const both = ['conn_a', 'conn_b'];
  expect(await lockedLeases(database.db, both)).toEqual(['conn_a']);
  await stranger.query('rollback');
  expect(await lockedLeases(database.db, both)).toEqual([]);
  await claimLeases(database.db, 'another', both, 3_600_000, 2);
  await stranger.query('begin');
  await stranger.query('select from whatsapp.sync_state for update');
  expect(await lockedLeases(database.db, both)).toEqual([]);
});
