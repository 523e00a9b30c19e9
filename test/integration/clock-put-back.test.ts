import type { Kysely } from 'kysely';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { claimLeases, leaseSituation } from '../../src/store/leases.ts';
import { claimMedia } from '../../src/store/media-claims.ts';
import type { Database } from '../../src/store/schema.ts';
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
  [
    'such a lease of a `sync` that was killed',
    `update whatsapp.sync_state set lease_owner = 'killed', lease_expires_at = now() + interval '2 hours'`,
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

test.each<[who: string, listed: string, alive: string]>([
  [
    'a worker that was heard of later than now',
    `insert into whatsapp.workers (worker_id, heartbeat_at)
       values ('dead', now() + interval '2 hours'), ('alive', now() + interval '50 seconds')`,
    // The clock was put back by less than a lease time: it ends soon enough by itself.
    '2 hours',
  ],
  ['one that is in no list, as of a `sync`, and ends later than it could', 'select', '1 minute'],
])('a lease is taken from %s, but not unasked', async (_, listed, alive) => {
  const both = ['conn_a', 'conn_b'];
  await start();
  await replicated();
  await workers.pop()!.stop();
  await database.query(`${listed};
    update whatsapp.sync_state set lease_owner = case connection_id when 'conn_a' then 'dead' else 'alive' end,
      lease_expires_at = now() + case connection_id when 'conn_a' then interval '2 hours' else interval '${alive}' end`);
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

/** A pass beside whoever holds the leases. */
async function passBeside(control: (own: Kysely<Database>) => Kysely<Database> = (own) => own) {
  const replica = await createReplica(quickSettings(database.url, simulator.url));
  replica.worker.start();
  const { signal } = new AbortController();
  const options = { ...replica.workerOptions, control: control(replica.control) };
  const results = await catchUp(
    replica.worker,
    options,
    replica.directory.connections,
    { maxFailures: 5 },
    signal,
  );
  await replica.worker.stop();
  await replica.close();
  return results;
}

test('what was caught up with then is not caught up with now', async () => {
  await start();
  await replicated();
  simulator.faults.script({ kind: 'answer', status: 402, body: '{}' }, 1_000);
  const parked = "select from whatsapp.sync_state where last_error_kind = 'payment_required'";
  await waitFor(async () => (await database.query(parked)).length === 2, { what: 'both to be parked' });
  await database.query(`update whatsapp.sync_state set caught_up_at = now() + interval '2 hours'`);
  for (const result of await passBeside())
    expect(result).toMatchObject({
      caughtUp: false,
      byHolder: true,
      error: expect.stringContaining('payment_required'),
    });
});

test.each([true, false])(
  'it is put back while a pass waits for the holder, whose upstream serves: %s',
  async (serves) => {
    await start();
    await replicated();
    if (!serves) simulator.faults.script({ kind: 'answer', status: 402, body: '{}' }, 1_000);
    // The pass begins before.
    let begun = false;
    const ahead = (own: Kysely<Database>) =>
      own.withPlugin({
        transformQuery: ({ node }) => node,
        transformResult: async ({ result }) => {
          const rows = begun ? result.rows : [{ at: new Date(Date.now() + 7_200_000).toISOString() }];
          begun = true;
          return { ...result, rows };
        },
      });
    for (const result of await passBeside(ahead))
      expect(result).toMatchObject({ caughtUp: serves, byHolder: true });
  },
);

test.each(['next_try_at', 'claimed_until'])('an attachment whose %s is then', async (column) => {
  const rooms = [{ connectionId: 'conn_a', room: 9 }];
  const claim = (token: string) => claimMedia(database.db, rooms, 9, 'newest', token, 60_000);
  // The longest pause is a day.
  await database.query(`insert into whatsapp.media (connection_id, message_id, ${column})
    values ('conn_a', 'then', now() + interval '3 years'), ('conn_a', 'tomorrow', now() + interval '1 day')`);
  expect((await claim('ours')).map(({ messageId }) => messageId)).toEqual(['then']);
  expect(await claim('another')).toEqual([]);
});
