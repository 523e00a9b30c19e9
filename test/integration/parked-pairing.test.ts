import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useDaemons } from '../support/daemons.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

let database: TestDatabase;
let simulator: Simulator;
let env: Record<string, string>;
const { start, stopAll } = useDaemons(() => env);

beforeEach(async () => {
  database = await createTestDatabase({ migrated: true });
});
afterEach(async () => {
  await stopAll();
  await simulator.close();
  await database.drop();
});

const row = async () =>
  (
    await database.query<{ paired: boolean; connected: boolean }>(
      'select paired, connected from whatsapp.connections',
    )
  )[0];

test('the pairing is asked for when a connection parks, after whatever failed before, and when it recovers', async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
  env = { ...quickSettings(database.url, simulator.url), DISCOVERY_INTERVAL: '1h' };
  start();
  // The first look at the pairing, of which there is none for an hour then.
  await waitFor(async () => (await row())?.connected === true, { what: 'the pairing' });
  const { state } = simulator.world.connection('conn_a');
  state.connected = false;
  simulator.faults.script({ kind: 'internal' }, 2, { route: 'sync' });
  simulator.faults.script({ kind: 'answer', status: 422 }, 8, { route: 'sync' });
  await waitFor(async () => (await row())?.connected === false, { what: 'the account to be looked at' });
  state.connected = true;
  await waitFor(async () => (await row())?.connected === true, { what: 'it to be looked at again' });
  // Of 2 failures and 8 refusals one look for each end of it, beside the first one.
  expect(simulator.stats.served['status 200']).toBe(3);
});

test('an account that is not paired any more parks, and goes on by itself once it is paired again', async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
  env = { ...quickSettings(database.url, simulator.url), DISCOVERY_INTERVAL: '1h' };
  const daemon = start();
  await waitFor(async () => (await row())?.paired === true, { what: 'the pairing' });
  const { state } = simulator.world.connection('conn_a');
  state.paired = false;
  await daemon.logged('connection parked');
  await waitFor(async () => (await row())?.paired === false, { what: 'the pairing to be lost' });
  state.paired = true;
  await daemon.logged('recovered');
  await waitFor(async () => (await row())?.paired === true, { what: 'the pairing' });
});
