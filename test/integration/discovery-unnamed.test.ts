import { describe, expect, test } from 'vitest';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { ensureConnections, renameConnection } from '../../src/store/connections.ts';
import { waitFor } from '../support/wait.ts';
import { UnnamedScene } from './unnamed-scene.ts';

const scene = new UnnamedScene();
const { contentOf, database, replicatedAs, rowsOf, start } = scene;

const jidKnown = () =>
  waitFor(
    async () => (await database.query('select from whatsapp.connections where jid is not null')).length,
    {
      what: 'the jid',
    },
  );

test('a key that lists none is one connection named default, addressed without the header', async () => {
  const worker = await start();
  expect(worker.directory.connections).toEqual(['default']);
  // With any header at all the simulator would answer 404.
  await replicatedAs('default', 'conn_a');
});

test('of several keys that list none only the first is used, and somebody is told', async () => {
  scene.simulator.world.addKey({ key: 'pa_live_two', connections: ['conn_a'], meShape: 'none' });
  const worker = await start({ WHATSAPP_USE_API_KEY: `${DEFAULT_API_KEY},pa_live_two` });
  expect(worker.directory.connections).toEqual(['default']);
  expect(worker.events).toContainEqual({ type: 'nameless_keys', keys: 1 });
});

describe('once ids are listed, default is renamed', () => {
  test('in every table, by its account, never duplicated, and the loop goes on', async () => {
    scene.simulator.world.connection('conn_a').injectRaw('message', '{"message_id": 7}');
    const worker = await start({ DISCOVERY_INTERVAL: '200ms' }, { discovers: true });
    await replicatedAs('default', 'conn_a');
    scene.simulator.world.applyChanges(100);
    await replicatedAs('default', 'conn_a');
    await jidKnown();
    const before = await contentOf('default');
    expect(Object.keys(before)).toEqual(expect.arrayContaining(['message_revisions', 'quarantine']));
    // Another account is listed beside it, and before it.
    scene.simulator.world.addConnection('conn_0');
    scene.simulator.world.applyChanges(30, 'conn_0');
    scene.key.meShape = 'ids';
    await waitFor(() => worker.told('connection_renamed').length, { what: 'the renaming' });
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await contentOf('conn_a')).toEqual(before);
    expect(await rowsOf('default')).toEqual({});
    await replicatedAs('conn_0', 'conn_0');
    scene.simulator.world.applyChanges(50, 'conn_a');
    await replicatedAs('conn_a', 'conn_a');
    expect(await database.query('select from whatsapp.sync_state where epoch <> 1')).toEqual([]);
    expect(await rowsOf('default')).toEqual({});
  });

  test('at once, not only when its lease has run out', async () => {
    const slow = { LEASE_TTL: '1h', POLL_INTERVAL: '100ms' };
    const worker = await start(slow);
    await replicatedAs('default', 'conn_a');
    scene.key.meShape = 'ids';
    await worker.look();
    scene.simulator.world.applyChanges(20);
    await replicatedAs('conn_a', 'conn_a');
  });

  test('also where its jid was never noted and the key reaches that one only', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await database.query('update whatsapp.connections set jid = null');
    scene.key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('also where it was paired again meanwhile: a JID may tell its device', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    await database.query(`update whatsapp.connections set jid = replace(jid, '@', ':12@')`);
    scene.key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('only when the accounts can be told: until then nothing begins anew', async () => {
    const worker = await start();
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    await jidKnown();
    scene.simulator.faults.script({ kind: 'bad_gateway' }, 2, { route: 'status' });
    scene.key.meShape = 'ids';
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
    for (const id of ['conn_0', 'conn_1', 'conn_2', 'conn_3']) scene.simulator.world.addConnection(id);
    scene.key.meShape = 'ids';
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
    scene.simulator.world.addConnection('conn_0');
    scene.key.connectionIds = ['conn_0', 'conn_a'];
    scene.simulator.faults.script({ kind: 'hang' }, 100, { route: 'status', connection: 'conn_0' });
    scene.key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(await rowsOf('default')).toEqual({});
  });

  test('not while the account is not paired, however long that is', async () => {
    const worker = await start({}, { removal: { looks: 1, after: 0 } });
    await replicatedAs('default', 'conn_a');
    await worker.discovery.pairings.followOne('default', new AbortController().signal);
    const { state } = scene.simulator.world.connection('conn_a');
    state.paired = false;
    scene.key.meShape = 'ids';
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
    await scene.stop(before);
    // The key is exchanged for one of another account.
    scene.simulator.world.addConnection('conn_b');
    scene.simulator.world.applyChanges(40, 'conn_b');
    scene.key.connectionIds = ['conn_b'];
    scene.key.meShape = 'ids';
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
    scene.simulator.world.addConnection('conn_0');
    scene.key.connectionIds = ['conn_0'];
    scene.key.meShape = 'ids';
    await worker.look();
    expect(worker.told('connection_removed')).toEqual(['default']);
    scene.key.connectionIds = ['conn_0', 'conn_a'];
    const { state } = scene.simulator.world.connection('conn_a');
    state.paired = false;
    await worker.look();
    expect(await rowsOf('conn_a')).toEqual({});
    state.paired = true;
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
    expect(worker.told('connection_found')).toEqual(['conn_0']);
    expect(await contentOf('conn_a')).toEqual(before);
    expect(await rowsOf('default')).toEqual({});
    scene.simulator.world.applyChanges(30, 'conn_a');
    await replicatedAs('conn_a', 'conn_a');
    expect(worker.told('connection_removed')).toEqual(['default']);
  });

  test('while of one that was removed nobody waits for what is never told', async () => {
    await ensureConnections(database.db, ['default']);
    await database.query('update whatsapp.connections set removed_at = now()');
    await database.query('update whatsapp.sync_state set cursor = 1');
    scene.key.meShape = 'ids';
    const worker = await start();
    await replicatedAs('conn_a', 'conn_a');
    // Its account is known after all, and is none of those that come.
    await database.query(
      `update whatsapp.connections set jid = '4915@s.whatsapp.net' where removed_at is not null`,
    );
    scene.simulator.world.addConnection('conn_b');
    const where = { route: 'status', connection: 'conn_b' };
    scene.simulator.faults.script({ kind: 'bad_gateway' }, 1, where);
    await worker.look();
    expect(await rowsOf('conn_b')).toEqual({});
    scene.simulator.faults.script({ kind: 'answer', status: 200, body: '{"paired":true}' }, 1, where);
    await worker.look();
    expect(await rowsOf('conn_b')).toMatchObject({ connections: 1, sync_state: 1 });
    expect(worker.told('connection_renamed')).toEqual([]);
  });

  test('also by a key that does not answer at first: until then it is not removed, nor asked for', async () => {
    const before = await start();
    await replicatedAs('default', 'conn_a');
    await before.discovery.pairings.followOne('default', new AbortController().signal);
    await scene.stop(before);
    scene.simulator.world.addConnection('conn_0');
    scene.key.connectionIds = ['conn_0'];
    scene.key.meShape = 'ids';
    const worker = await start(
      { WHATSAPP_USE_API_KEY: `${DEFAULT_API_KEY},pa_live_two`, REQUEST_TIMEOUT: '500ms' },
      { removal: { looks: 1, after: 0 } },
    );
    await worker.look();
    expect(worker.told('connection_removed')).toEqual([]);
    const { struck } = scene.simulator.faults;
    scene.simulator.faults.script({ kind: 'hang' }, 1, { route: 'me' });
    const looking = worker.look();
    await waitFor(() => struck.hang, { what: 'the look-up to hang' });
    expect(worker.directory.connections).toEqual(['conn_0']);
    await looking;
    scene.simulator.world.addKey({ key: 'pa_live_two', connections: ['conn_a'] });
    await worker.look();
    expect(worker.told('connection_renamed')).toEqual(['conn_a']);
  });

  test('for every worker: whoever held it stops, and one holds it under its id', async () => {
    const one = await start();
    await replicatedAs('default', 'conn_a');
    const other = await start();
    await one.discovery.pairings.followOne('default', new AbortController().signal);
    scene.key.meShape = 'ids';
    await other.look();
    await one.look();
    for (const worker of [one, other]) expect(worker.directory.connections).toEqual(['conn_a']);
    scene.simulator.world.applyChanges(40);
    await replicatedAs('conn_a', 'conn_a');
    await waitFor(() => !one.worker.holds('default') && !other.worker.holds('default'), {
      what: 'the old loop to end',
    });
    expect([one, other].filter((worker) => worker.worker.holds('conn_a'))).toHaveLength(1);
    expect(await rowsOf('default')).toEqual({});
  });
});

test('it is not renamed to an id that is taken', async () => {
  await ensureConnections(database.db, ['default', 'conn_a']);
  expect(await renameConnection(database.db, 'default', 'conn_a')).toBe(false);
  expect(await database.query('select connection_id from whatsapp.sync_state order by 1')).toEqual([
    { connection_id: 'conn_a' },
    { connection_id: 'default' },
  ]);
});
