import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { compareWithTruth } from '../../src/demo/compare.ts';
import type { AccessKey } from '../../src/simulator/access.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { beginInstead, ensureConnections, renameConnection } from '../../src/store/connections.ts';
import { TABLES } from '../../src/store/schema.ts';
import { runCommand } from '../support/command.ts';
import { useFreshDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker, type TestWorkerOptions } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let key: AccessKey;
const workers: TestWorker[] = [];

beforeEach(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 200, meShape: 'none' });
  key = simulator.world.keys.get(DEFAULT_API_KEY)!;
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await simulator.close();
});

async function start(env: Record<string, string> = {}, options: TestWorkerOptions = {}): Promise<TestWorker> {
  const settings = { ...quickSettings(database.url, simulator.url), ...env };
  const worker = await startWorker(settings, { discovers: false, ...options });
  workers.push(worker);
  return worker;
}

const replicatedAs = (name: string, id: string) =>
  waitFor(
    async () =>
      (await compareWithTruth(database.db, name, simulator.world.truth(id))).differences.length === 0,
    { what: `${name} to equal the truth of ${id}` },
  );
const jidKnown = () =>
  waitFor(
    async () => (await database.query('select from whatsapp.connections where jid is not null')).length,
    {
      what: 'the jid',
    },
  );

/** In which tables the connection has rows, and how many. */
async function rowsOf(connectionId: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of TABLES) {
    if (['workers', 'change_consumers', 'crm_links', 'kysely_migration'].includes(table)) continue;
    const rows = await database.query<{ n: string }>(
      `select count(*) as n from whatsapp.${table} where connection_id = $1`,
      [connectionId],
    );
    if (rows[0]!.n !== '0') counts[table] = Number(rows[0]!.n);
  }
  return counts;
}

/** The rows that a rename takes along; pages and polls go on meanwhile. */
async function contentOf(connectionId: string): Promise<Record<string, number>> {
  const { sync_pages: _, ...content } = await rowsOf(connectionId);
  return content;
}

test('a key that lists none is one connection named default, addressed without the header', async () => {
  const worker = await start();
  expect(worker.directory.connections).toEqual(['default']);
  // With any header at all the simulator would answer 404.
  await replicatedAs('default', 'conn_a');
});

test('of several keys that list none only the first is used, and somebody is told', async () => {
  simulator.world.addKey({ key: 'pa_live_two', connections: ['conn_a'], meShape: 'none' });
  const worker = await start({ WHATSAPP_USE_API_KEY: `${DEFAULT_API_KEY},pa_live_two` });
  expect(worker.directory.connections).toEqual(['default']);
  expect(worker.events).toContainEqual({ type: 'nameless_keys', keys: 1 });
});

describe('once ids are listed, default is renamed', () => {
  test('in every table, by its account, never duplicated, and the loop goes on', async () => {
    simulator.world.connection('conn_a').injectRaw('message', '{"message_id": 7}');
    const worker = await start({ DISCOVERY_INTERVAL: '200ms' }, { discovers: true });
    await replicatedAs('default', 'conn_a');
    simulator.world.applyChanges(100);
    await replicatedAs('default', 'conn_a');
    await jidKnown();
    const before = await contentOf('default');
    expect(Object.keys(before)).toEqual(expect.arrayContaining(['message_revisions', 'quarantine']));
    // Another account is listed beside it, and before it.
    simulator.world.addConnection('conn_0');
    simulator.world.applyChanges(30, 'conn_0');
    key.meShape = 'ids';
    await waitFor(() => worker.told('connection_renamed').length, { what: 'the renaming' });
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await contentOf('conn_a')).toEqual(before);
    expect(await rowsOf('default')).toEqual({});
    await replicatedAs('conn_0', 'conn_0');
    simulator.world.applyChanges(50, 'conn_a');
    await replicatedAs('conn_a', 'conn_a');
    expect(await database.query('select from whatsapp.sync_state where epoch <> 1')).toEqual([]);
    expect(await rowsOf('default')).toEqual({});
  });

  test('at once, not only when its lease has run out', async () => {
    const slow = { LEASE_TTL: '1h', POLL_INTERVAL: '100ms' };
    const worker = await start(slow);
    await replicatedAs('default', 'conn_a');
    key.meShape = 'ids';
    await worker.look();
    simulator.world.applyChanges(20);
    await replicatedAs('conn_a', 'conn_a');
  });

  test('also where its jid was never noted and the key reaches that one only', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await database.query('update whatsapp.connections set jid = null');
    key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('after passes alone, too: each notes the account; where it cannot be told, none passes for done', async () => {
    const env = quickSettings(database.url, simulator.url);
    const [connection] = simulator.world.connections.values();
    const pass = async () => (await runCommand(['sync'], env)).status;
    simulator.faults.script({ kind: 'internal' }, 1, { route: 'status' });
    expect(await pass()).toBe(0);
    expect(await database.query('select jid from whatsapp.connections')).toEqual([{ jid: null }]);
    expect(await pass()).toBe(0);
    simulator.world.addConnection('conn_0');
    simulator.world.applyChanges(30);
    key.meShape = 'ids';
    connection!.state.paired = false;
    expect(await pass()).toBe(1);
    connection!.state.paired = true;
    expect(await pass()).toBe(0);
    await replicatedAs('conn_a', 'conn_a');
    await replicatedAs('conn_0', 'conn_0');
    expect(await rowsOf('default')).toEqual({});
  });

  test('by a pass of one that is named, too, and then none can mean it any more', async () => {
    const env = quickSettings(database.url, simulator.url);
    const [connection] = simulator.world.connections.values();
    const pass = (...args: string[]) => runCommand(['sync', ...args], env);
    expect(await pass('--connection', 'default')).toMatchObject({ status: 0 });
    await pass();
    const before = await contentOf('default');
    simulator.world.addConnection('conn_0');
    key.meShape = 'ids';
    expect(await pass('--connection', 'conn_0')).toMatchObject({ status: 0 });
    connection!.state.paired = false;
    const untold = await pass('--connection', 'conn_a');
    expect(untold).toMatchObject({ status: 1, stderr: expect.stringContaining('see that they are paired') });
    expect(await contentOf('default')).toEqual(before);
    for (const command of ['sync', 'verify']) {
      const refused = await runCommand([command, '--connection', 'default'], env);
      expect(refused).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('default cannot be asked for'),
      });
    }
    connection!.state.paired = true;
    expect(await pass('--connection', 'conn_a')).toMatchObject({ status: 0 });
    await replicatedAs('conn_a', 'conn_a');
    expect(await contentOf('conn_a')).toEqual(before);
    expect(await rowsOf('default')).toEqual({});
  });

  test('also where it was paired again meanwhile: a JID may tell its device', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    await database.query(`update whatsapp.connections set jid = replace(jid, '@', ':12@')`);
    key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('only when the accounts can be told: until then nothing begins anew', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    await jidKnown();
    simulator.faults.script({ kind: 'bad_gateway' }, 2, { route: 'status' });
    key.meShape = 'ids';
    await worker.look();
    expect(await rowsOf('conn_a')).toEqual({});
    expect(worker.events).toContainEqual({
      type: 'discovery_failed',
      error: expect.objectContaining({ kind: 'not_ready' }),
    });
    await worker.look();
    expect(await rowsOf('conn_a')).toEqual({});
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    await replicatedAs('conn_a', 'conn_a');
    expect(await rowsOf('default')).toEqual({});
  });

  test('at the rate that the key may be asked at', async () => {
    const rest = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' };
    const worker = await start({ ...rest, REQUEST_RATE: '2' });
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    for (const id of ['conn_0', 'conn_1', 'conn_2', 'conn_3']) simulator.world.addConnection(id);
    key.meShape = 'ids';
    const began = performance.now();
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    // Five, of which one may make up for a rest.
    expect(performance.now() - began).toBeGreaterThan(1_400);
  });

  test('also while another account hangs that is listed before it', async () => {
    const worker = await start({ REQUEST_TIMEOUT: '1m' });
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    simulator.world.addConnection('conn_0');
    key.connectionIds = ['conn_0', 'conn_a'];
    simulator.faults.script({ kind: 'hang' }, 100, { route: 'status', connection: 'conn_0' });
    key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('not while the account is not paired, however long that is', async () => {
    const worker = await start({}, { removal: { looks: 1, after: 0 } });
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    const { state } = simulator.world.connection('conn_a');
    state.paired = false;
    key.meShape = 'ids';
    for (let looks = 0; looks < 3; looks++) await worker.look();
    expect(await rowsOf('conn_a')).toEqual({});
    expect(worker.told('connection_removed')).toEqual([]);
    state.paired = true;
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
  });

  test('and another account is a connection of its own, while default keeps its data until it is removed', async () => {
    const before = await start();
    await replicatedAs('default', 'conn_a');
    await before.discovery.pairings.followOne('default', new AbortController().signal);
    await jidKnown();
    await before.stop();
    workers.pop();
    // The key is exchanged for one of another account.
    simulator.world.addConnection('conn_b');
    simulator.world.applyChanges(40, 'conn_b');
    key.connectionIds = ['conn_b'];
    key.meShape = 'ids';
    const worker = await start({}, { removal: { looks: 3, after: 0 } });
    await replicatedAs('conn_b', 'conn_b');
    expect(worker.told('connection_renamed')).toEqual([]);
    // Without the header it would be the other account's messages by now.
    expect(worker.worker.holds('default')).toBe(false);
    await worker.look();
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['default']);
    await replicatedAs('default', 'conn_a');
  });

  test('also where its account is listed only when it was removed for that', async () => {
    const worker = await start({}, { removal: { looks: 1, after: 0 } });
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    const before = await contentOf('default');
    simulator.world.addConnection('conn_0');
    key.connectionIds = ['conn_0'];
    key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['default']);
    key.connectionIds = ['conn_0', 'conn_a'];
    const { state } = simulator.world.connection('conn_a');
    state.paired = false;
    await worker.look();
    expect(await rowsOf('conn_a')).toEqual({});
    state.paired = true;
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(worker.told('connection_found')).toEqual(['conn_0']);
    expect(await contentOf('conn_a')).toEqual(before);
    expect(await rowsOf('default')).toEqual({});
    simulator.world.applyChanges(30, 'conn_a');
    await replicatedAs('conn_a', 'conn_a');
    expect(worker.told('connection_removed')).toEqual(['default']);
  });

  test('while of one that was removed nobody waits for what is never told', async () => {
    await ensureConnections(database.db, ['default']);
    await database.query('update whatsapp.connections set removed_at = now()');
    await database.query('update whatsapp.sync_state set cursor = 1');
    key.meShape = 'ids';
    const worker = await start();
    await replicatedAs('conn_a', 'conn_a');
    // Its account is known after all, and is none of those that come.
    await database.query(
      `update whatsapp.connections set jid = '4915@s.whatsapp.net' where removed_at is not null`,
    );
    simulator.world.addConnection('conn_b');
    const where = { route: 'status', connection: 'conn_b' };
    simulator.faults.script({ kind: 'bad_gateway' }, 1, where);
    await worker.look();
    expect(await rowsOf('conn_b')).toEqual({});
    simulator.faults.script({ kind: 'answer', status: 200, body: '{"paired":true}' }, 1, where);
    await worker.look();
    expect(await rowsOf('conn_b')).toMatchObject({ connections: 1, sync_state: 1 });
    expect(worker.told('connection_renamed')).toEqual([]);
  });

  test('also by a key that does not answer at first: until then it is not removed, nor asked for', async () => {
    const before = await start();
    await replicatedAs('default', 'conn_a');
    await before.discovery.pairings.followOne('default', new AbortController().signal);
    await before.stop();
    workers.pop();
    simulator.world.addConnection('conn_0');
    key.connectionIds = ['conn_0'];
    key.meShape = 'ids';
    const worker = await start(
      { WHATSAPP_USE_API_KEY: `${DEFAULT_API_KEY},pa_live_two`, REQUEST_TIMEOUT: '500ms' },
      { removal: { looks: 1, after: 0 } },
    );
    await worker.look();
    expect(worker.told('connection_removed')).toEqual([]);
    const { struck } = simulator.faults;
    simulator.faults.script({ kind: 'hang' }, 1, { route: 'me' });
    const looking = worker.look();
    await waitFor(() => struck.hang, { what: 'the look-up to hang' });
    expect(worker.directory.connections).toEqual(['conn_0']);
    await looking;
    simulator.world.addKey({ key: 'pa_live_two', connections: ['conn_a'] });
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
  });

  test('for every worker: whoever held it stops, and one holds it under its id', async () => {
    const one = await start();
    await replicatedAs('default', 'conn_a');
    const other = await start();
    await one.discovery.pairings.followOne('default', new AbortController().signal);
    key.meShape = 'ids';
    await other.look();
    await one.look();
    for (const worker of [one, other]) expect(worker.directory.connections).toEqual(['conn_a']);
    simulator.world.applyChanges(40);
    await replicatedAs('conn_a', 'conn_a');
    await waitFor(() => !one.worker.holds('default') && !other.worker.holds('default'), {
      what: 'the old loop to end',
    });
    expect([one, other].filter((worker) => worker.worker.holds('conn_a'))).toHaveLength(1);
    expect(await rowsOf('default')).toEqual({});
  });
});

test('of which nothing was ever stored, it keeps nobody waiting: an organization may have had no account yet', async () => {
  // Without the header the simulator answers 400: two could be meant.
  simulator.world.addConnection('conn_b');
  simulator.world.applyChanges(40, 'conn_b');
  const worker = await start();
  const parked = `select c.discovered_at from whatsapp.sync_state join whatsapp.connections c using (connection_id)
    where last_error_kind = 'bad_request'`;
  const [since] = await waitFor(
    async () => {
      const rows = await database.query<{ discovered_at: Date }>(parked);
      return rows.length > 0 ? rows : undefined;
    },
    { what: 'default to be refused' },
  );
  key.meShape = 'ids';
  await worker.look();
  expect(worker.told('connection_found')).toEqual(['conn_a', 'conn_b']);
  for (const id of ['conn_a', 'conn_b']) await replicatedAs(id, id);
  expect(await rowsOf('default')).toEqual({});
  // What either lacks may be missing since then.
  expect(await database.query('select discovered_at from whatsapp.connections')).toEqual([since, since]);
});

test('of which nothing was ever stored, no slip of a person takes its place', async () => {
  await ensureConnections(database.db, ['default']);
  // Whatever is asked fails, so that a slip cannot be told from an outage.
  simulator.faults.script({ kind: 'internal' }, 50, { route: 'status' });
  const env = quickSettings(database.url, simulator.url);
  const { status } = await runCommand(['sync', '--connection', 'conn_slip'], env);
  expect(status).toBe(1);
  expect(await database.query('select connection_id from whatsapp.connections')).toEqual([
    { connection_id: 'default' },
  ]);
});

test('of which something was quarantined, it is not taken for one of which nothing is stored', async () => {
  await ensureConnections(database.db, ['default']);
  await database.query(`insert into whatsapp.quarantine (connection_id, kind, record_json, record_sha256, error,
      numbering, cursor_from, cursor_to)
    values ('default', 'message', '{}', '', 'x', 1, 0, 0)`);
  expect(await beginInstead(database.db, 'default', ['conn_a'])).toBe(false);
  await database.query('delete from whatsapp.quarantine');
  await database.query('update whatsapp.sync_state set cursor = 1');
  expect(await beginInstead(database.db, 'default', ['conn_a'])).toBe(false);
  expect(await database.query('select connection_id from whatsapp.sync_state')).toEqual([
    { connection_id: 'default' },
  ]);
});

test('it is not renamed to an id that is taken', async () => {
  await ensureConnections(database.db, ['default', 'conn_a']);
  expect(await renameConnection(database.db, 'default', 'conn_a')).toBe(false);
  expect(await database.query('select connection_id from whatsapp.sync_state order by 1')).toEqual([
    { connection_id: 'conn_a' },
    { connection_id: 'default' },
  ]);
});
