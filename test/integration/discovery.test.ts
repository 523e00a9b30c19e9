import { afterEach, describe, expect, test } from 'vitest';
import { discoveryListener } from '../../src/cli/watchers.ts';
import { ReplicaError } from '../../src/errors/errors.ts';
import type { KeyOptions, MeShape } from '../../src/simulator/access.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker, type TestWorkerOptions } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
const workers: TestWorker[] = [];

afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await simulator?.close();
});

async function simulate(connections: readonly string[], keys?: readonly KeyOptions[]): Promise<void> {
  simulator = await startSimulator({ connections, messages: 60 * connections.length, keys: keys ?? null });
}

/** A worker that looks when it is told to, unless the options say otherwise. */
async function start(
  env: Record<string, string> = {},
  options: TestWorkerOptions = { discovers: false },
): Promise<TestWorker> {
  const worker = await startWorker({ ...quickSettings(database.url, simulator.url), ...env }, options);
  workers.push(worker);
  return worker;
}

const key = () => simulator.world.keys.get(DEFAULT_API_KEY)!;
const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const replicated = () => waitFor(agrees, { what: 'the tables to equal the truth' });
const messagesOf = async (id: string) =>
  (await database.query('select from whatsapp.messages where connection_id = $1', [id])).length;
const known = () =>
  database.query<{ connection_id: string; removed: boolean }>(
    'select connection_id, removed_at is not null as removed from whatsapp.connections order by 1',
  );

describe('a key that is limited (R13)', () => {
  test('is not asked what it lists until that is over', async () => {
    await simulate(['conn_a']);
    const worker = await start({ BACKOFF_MAX: '5m' });
    await replicated();
    simulator.faults.script({ kind: 'rate_limited', retryAfter: 600, asDate: false }, 1, { route: 'sync' });
    await waitFor(() => worker.told('failed').length > 0, { what: 'the 429' });
    const asked = () => simulator.stats.recent.filter(({ route }) => route === 'me').length;
    const before = asked();
    await worker.look();
    expect(asked()).toBe(before);
    expect(worker.events.at(-1)).toMatchObject({ type: 'discovery_failed', error: { kind: 'rate_limited' } });
  });

  test('is so where it was asked that, too', async () => {
    await simulate(['conn_a']);
    const worker = await start({ BACKOFF_MAX: '5m' });
    simulator.faults.script({ kind: 'rate_limited', retryAfter: 600, asDate: false }, 1, { route: 'me' });
    await worker.look();
    expect(worker.admission.besideIn('conn_a')).toBeGreaterThan(500_000);
  });
});

describe('what the keys list is replicated', () => {
  test.each<MeShape>([
    'ids',
    'objects',
    'nested',
    () => '{"data":[{"org":{"access":{"whatsapp":{"connections":[{"id":"conn_a"},"conn_b"]}}}}]}',
  ])('whatever the shape of /v1/me (%s)', async (meShape) => {
    await simulate(['conn_a', 'conn_b'], [{ key: DEFAULT_API_KEY, meShape }]);
    const worker = await start();
    await replicated();
    expect(worker.told('connection_found')).toEqual(['conn_a', 'conn_b']);
  });

  test('beside ids that can be none: unfit for a header, for Postgres or for an index', async () => {
    const bad = ['nul\u0000', 'line\n', '漢', '\ud800', 'x'.repeat(5_000)];
    const meShape = () => JSON.stringify({ connections: ['conn_a', ...bad, { id: bad[0] }, 'conn_b'] });
    await simulate(['conn_a', 'conn_b'], [{ key: DEFAULT_API_KEY, meShape }]);
    const worker = await start();
    await replicated();
    expect(worker.told('connection_found')).toEqual(['conn_a', 'conn_b']);
    expect(worker.events).toContainEqual({
      type: 'discovery_failed',
      error: expect.objectContaining({
        kind: 'protocol',
        where: '5 of the listed connection ids cannot be used (GET /v1/me)',
      }),
    });
  });

  test('nothing in place of ids of which none can be used', async () => {
    await simulate(['conn_a'], [{ key: DEFAULT_API_KEY, meShape: () => '{"connections":["漢"]}' }]);
    await expect(start()).rejects.toMatchObject({
      kind: 'protocol',
      where: '1 of the listed connection ids cannot be used (GET /v1/me)',
    });
    expect(await known()).toEqual([]);
  });

  test('a connection that appears, without a restart', async () => {
    await simulate(['conn_a']);
    await start({ DISCOVERY_INTERVAL: '150ms' }, {});
    await replicated();
    simulator.world.addConnection('conn_new');
    simulator.world.applyChanges(50, 'conn_new');
    await replicated();
    expect(await messagesOf('conn_new')).toBeGreaterThan(0);
  });

  test('only those that are named, where they are named, whatever the database knows', async () => {
    await simulate(['conn_a', 'conn_b']);
    await (await start()).stop();
    workers.pop();
    simulator.stats.recent.length = 0;
    const worker = await start({ WHATSAPP_USE_CONNECTION_IDS: 'conn_b' });
    expect(worker.directory.connections).toEqual(['conn_b']);
    await waitFor(() => simulator.stats.recent.length > 5, { what: 'polls' });
    expect(new Set(simulator.stats.recent.map(({ connection }) => connection))).toEqual(new Set(['conn_b']));
  });
});

describe('a connection that is not listed any more', () => {
  const hide = (id: string) => {
    key().connectionIds = [...simulator.world.connections.keys()].filter((one) => one !== id);
  };
  const soon = { removal: { looks: 3, after: 0 }, discovers: false };

  test('is removed after three look-ups; its data stays, and it comes back when it is listed again', async () => {
    await simulate(['conn_a', 'conn_b']);
    const worker = await start({}, soon);
    await replicated();
    const before = await messagesOf('conn_b');
    hide('conn_b');
    await worker.look();
    await worker.look();
    expect(worker.directory.connections).toContain('conn_b');
    expect(await known()).toContainEqual({ connection_id: 'conn_b', removed: false });
    await worker.look();
    expect(worker.directory.connections).toEqual(['conn_a']);
    expect(await known()).toContainEqual({ connection_id: 'conn_b', removed: true });
    expect(worker.told('connection_removed')).toEqual(['conn_b']);
    expect(await messagesOf('conn_b')).toBe(before);
    await waitFor(() => !worker.worker.holds('conn_b'), { what: 'the loop to end' });

    key().connectionIds = null;
    simulator.world.applyChanges(50, 'conn_b');
    await worker.look();
    await replicated();
    expect(await known()).toContainEqual({ connection_id: 'conn_b', removed: false });
    expect(await database.query('select from whatsapp.sync_state where epoch <> 1')).toEqual([]);
  });

  test('is not removed before its time', async () => {
    await simulate(['conn_a', 'conn_b']);
    const worker = await start({}, { removal: { looks: 2, after: 400 }, discovers: false });
    hide('conn_b');
    const since = performance.now();
    await waitFor(
      async () => {
        await worker.look();
        return worker.told('connection_removed').length > 0;
      },
      { what: 'the removal', everyMs: 50 },
    );
    expect(performance.now() - since).toBeGreaterThanOrEqual(400);
  });

  test('counts anew where it is listed in between', async () => {
    await simulate(['conn_a', 'conn_b']);
    const worker = await start({}, { removal: { looks: 2, after: 0 }, discovers: false });
    hide('conn_b');
    await worker.look();
    key().connectionIds = null;
    await worker.look();
    hide('conn_b');
    await worker.look();
    expect(worker.told('connection_removed')).toEqual([]);
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['conn_b']);
  });

  test('is removed at its own 404, unless it is listed all the same, or has answered since', async () => {
    await simulate(['conn_a', 'conn_b', 'conn_c', 'conn_d']);
    const worker = await start({}, { discovers: false });
    const listen = discoveryListener(() => worker, new AbortController().signal);
    const error = new ReplicaError('not_found', { where: 'GET /v1/whatsapp/sync' });
    for (const connectionId of ['conn_a', 'conn_b', 'conn_c', 'conn_d'])
      listen({ type: 'failed', connectionId, error, failures: 1, retryIn: 0 });
    listen({ type: 'recovered', connectionId: 'conn_c', failures: 1 });
    // Another worker may have had an answer since.
    listen({ type: 'lease_lost', connectionId: 'conn_d' });
    key().connectionIds = ['conn_a'];
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['conn_b']);
    // That of before was looked into, and it was listed.
    key().connectionIds = ['conn_c'];
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['conn_b']);
  });

  test('is not judged while a key does not answer', async () => {
    const keys = [
      { key: 'pa_live_one', connections: ['conn_a'] },
      { key: 'pa_live_two', connections: ['conn_b'] },
    ];
    await simulate(['conn_a', 'conn_b'], keys);
    const worker = await start(
      { WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two' },
      { removal: { looks: 1, after: 0 }, discovers: false },
    );
    simulator.world.removeKey('pa_live_two');
    await worker.look();
    expect(worker.directory.connections).toEqual(['conn_a', 'conn_b']);
    expect(worker.events).toContainEqual(expect.objectContaining({ type: 'discovery_failed' }));
  });

  test('is dropped by the other workers too, at their next look-up', async () => {
    await simulate(['conn_a', 'conn_b']);
    const one = await start({}, soon);
    const other = await start({}, { discovers: false });
    hide('conn_b');
    for (let looks = 0; looks < 3; looks++) await one.look();
    await other.look();
    expect(other.directory.connections).toEqual(['conn_a']);
    expect(await known()).toContainEqual({ connection_id: 'conn_b', removed: true });
  });

  test.each([
    '{"connection_ids":[]}',
    '{}',
    '[]',
    'null',
    '<html>',
    '{"connection_ids":["co',
    '""',
    '{"connection_ids":["漢"]}',
    '{"connection_ids":["conn_a","漢"]}',
  ])(
    'is nothing of the kind where the list is empty, unreadable, or has ids that cannot be used: %s',
    async (text) => {
      await simulate(['conn_a', 'conn_b']);
      const worker = await start({}, { removal: { looks: 1, after: 0 }, discovers: false });
      key().meShape = () => text;
      await worker.look();
      await worker.look();
      expect(worker.directory.connections).toEqual(['conn_a', 'conn_b']);
      expect(await known()).toEqual(
        ['conn_a', 'conn_b'].map((id) => ({ connection_id: id, removed: false })),
      );
      simulator.world.applyChanges(30);
      await replicated();
    },
  );
});

test('a daemon that starts while /v1/me is down goes on with what the database knows', async () => {
  await simulate(['conn_a', 'conn_b']);
  const first = await start();
  await replicated();
  await first.stop();
  workers.pop();
  simulator.faults.script({ kind: 'internal' }, 1_000, { route: 'me' });
  simulator.world.applyChanges(50);
  const worker = await start();
  await replicated();
  expect(worker.events).toContainEqual(expect.objectContaining({ type: 'discovery_failed' }));
});

test('nothing is assumed where nothing is known and /v1/me is down', async () => {
  await simulate(['conn_a']);
  simulator.faults.script({ kind: 'internal' }, 1, { route: 'me' });
  await expect(start()).rejects.toMatchObject({ kind: 'upstream' });
  expect(await known()).toEqual([]);
});

test('a look-up that the database does not survive changes nothing that is known', async () => {
  await simulate(['conn_a', 'conn_b']);
  const worker = await start();
  await database.query('alter table whatsapp.connections rename to hidden');
  await expect(worker.look()).rejects.toThrow();
  await database.query('alter table whatsapp.hidden rename to connections');
  await worker.look();
  expect(worker.directory.connections).toEqual(['conn_a', 'conn_b']);
});

test('the pairing of connections is followed with discovery', async () => {
  await simulate(['conn_a']);
  await start({ DISCOVERY_INTERVAL: '150ms' }, {});
  const { state, jid } = simulator.world.connection('conn_a');
  const row = async () =>
    (await database.query('select jid, paired, connected from whatsapp.connections'))[0];
  await waitFor(async () => (await row())?.paired === true, { what: 'the pairing' });
  expect(await row()).toEqual({ jid, paired: true, connected: true });
  state.connected = false;
  await waitFor(async () => (await row())?.connected === false, { what: 'the connection to be lost' });
  state.paired = false;
  await waitFor(async () => (await row())?.paired === false, { what: 'the pairing to be lost' });
  // The account does not change by that.
  expect(await row()).toEqual({ jid, paired: false, connected: false });
});
