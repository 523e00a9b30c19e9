import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { claimLeases, leaseSituation } from '../../src/store/leases.ts';
import { claimMedia } from '../../src/store/media-claims.ts';
import { startEpoch } from '../../src/store/state.ts';
import { readConnections, readWorkers } from '../../src/store/status.ts';
import { settledAmong } from '../../src/store/upkeep.ts';
import { catchUp } from '../../src/sync/catch-up.ts';
import { useFreshDatabase } from '../support/database.ts';
import { createReplica, differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

/* The clock of the database was years ahead, and was put back: times that are written down hold nobody up. */

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
const workers: TestWorker[] = [];

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b'], messages: 20 });
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await simulator.close();
});

async function start(): Promise<TestWorker> {
  const worker = await startWorker(quickSettings(database.url, simulator.url), { discovers: false });
  workers.push(worker);
  return worker;
}

const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });

test.each<[what: string, then: string]>([
  ['a poll that is due then', "update whatsapp.sync_state set next_poll_at = now() + interval '2 hours'"],
  [
    'a lease of a worker that died',
    `update whatsapp.sync_state set lease_owner = 'dead', lease_expires_at = now() + interval '3 years'`,
  ],
  [
    'a heartbeat of one: the others have its share',
    `insert into whatsapp.workers (worker_id, heartbeat_at) values ('dead', now() + interval '3 years')`,
  ],
  [
    'a lease that ends as late as any could, of one',
    `insert into whatsapp.workers (worker_id, heartbeat_at) values ('dead', now() + interval '2 hours');
     update whatsapp.sync_state set lease_owner = 'dead', lease_expires_at = now() + interval '2 hours'`,
  ],
])('%s', async (_, then) => {
  await start();
  await replicated();
  await workers.pop()!.stop();
  await database.query(then);
  for (const connection of simulator.world.connections.values()) {
    connection.addMessage({ conversation: connection.conversations[0]! });
  }
  const { id } = (await start()).worker;
  await replicated();
  expect((await readWorkers(database.db, 60_000)).map(({ worker_id }) => worker_id)).toEqual([id]);
});

test('an epoch that began then: it is caught up with all the same', async () => {
  const state = async () => (await readConnections(database.db, 60_000))[0]!.state;
  const settled = () => settledAmong(database.db, ['conn_a']);
  await start();
  await replicated();
  await workers.pop()!.stop();
  await startEpoch(database.db, 'conn_a', 'resync', false);
  await database.query(`update whatsapp.sync_state set epoch_started_at = now() + interval '3 years'`);
  expect([await state(), await settled()]).toEqual(['catching_up', []]);
  await start();
  await waitFor(async () => (await state()) === 'live', { what: 'it to be live' });
  expect(await settled()).toEqual(['conn_a']);
});

test('a lease of the longest time that there may be is held', async () => {
  await start();
  await replicated();
  await workers.pop()!.stop();
  await database.query(`update whatsapp.sync_state set lease_owner = 'another', lease_expires_at = now()
    + case connection_id when 'conn_a' then interval '1 day' else interval '3 years' end`);
  const both = ['conn_a', 'conn_b'];
  expect(await leaseSituation(database.db, both, 60_000)).toMatchObject({ free: 1 });
  const claimed = await claimLeases(database.db, 'ours', both, 60_000, 2);
  expect(claimed.map(({ connectionId }) => connectionId)).toEqual(['conn_b']);
});

test('a lease is taken from a worker that was heard of later than now, but not unasked', async () => {
  const both = ['conn_a', 'conn_b'];
  await start();
  await replicated();
  await workers.pop()!.stop();
  // The clock was put back by less than a lease time under the one: it ends soon enough by itself.
  await database.query(`
    insert into whatsapp.workers (worker_id, heartbeat_at)
      values ('dead', now() + interval '2 hours'), ('alive', now() + interval '50 seconds');
    update whatsapp.sync_state set lease_expires_at = now() + interval '2 hours',
      lease_owner = case connection_id when 'conn_a' then 'dead' else 'alive' end`);
  expect(await leaseSituation(database.db, both, 60_000)).toMatchObject({ free: 0, ahead: 1 });
  expect(await claimLeases(database.db, 'ours', both, 60_000, 2)).toEqual([]);
  const claimed = await claimLeases(database.db, 'ours', both, 60_000, 2, true);
  expect(claimed).toMatchObject([{ connectionId: 'conn_a', takenOver: true }]);
  expect(await leaseSituation(database.db, both, 60_000)).toMatchObject({ free: 0, ahead: 0 });
});

test('one pass waits no longer than a lease time for a worker that was', async () => {
  const replica = await createReplica(quickSettings(database.url, simulator.url));
  await database.query(`
    insert into whatsapp.workers (worker_id, heartbeat_at) values ('dead', now() + interval '2 hours');
    update whatsapp.sync_state set lease_owner = 'dead', lease_expires_at = now() + interval '2 hours'`);
  replica.worker.start();
  const { signal } = new AbortController();
  const ids = replica.directory.connections;
  const results = await catchUp(replica.worker, replica.workerOptions, ids, { maxFailures: 5 }, signal);
  for (const result of results) expect(result).toMatchObject({ caughtUp: true, byHolder: false });
  await replica.worker.stop();
  await replica.close();
});

test.each(['next_try_at', 'claimed_until'])('an attachment whose %s is then', async (column) => {
  const rooms = [{ connectionId: 'conn_a', room: 9 }];
  const claim = (token: string) => claimMedia(database.db, rooms, 9, 'newest', token, 60_000);
  // The longest pause is a day.
  await database.query(`insert into whatsapp.media (connection_id, message_id, ${column})
    values ('conn_a', 'then', now() + interval '3 years'), ('conn_a', 'tomorrow', now() + interval '1 day')`);
  expect((await claim('ours')).map(({ messageId }) => messageId)).toEqual(['then']);
  expect(await claim('another')).toEqual([]);
});
