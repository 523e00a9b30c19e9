/** What single passes of `sync` and `verify` make of the connection without a name, without a daemon. */
import { expect, test } from 'vitest';
import { runCommand } from '../support/command.ts';
import { quickSettings } from '../support/replica.ts';
import { UnnamedScene } from './unnamed-scene.ts';

const scene = new UnnamedScene();
const { contentOf, database, replicatedAs, rowsOf } = scene;

test('after passes alone, too: each notes the account; where it cannot be told, none passes for done', async () => {
  const env = quickSettings(database.url, scene.simulator.url);
  const [connection] = scene.simulator.world.connections.values();
  const pass = async () => (await runCommand(['sync'], env)).status;
  scene.simulator.faults.script({ kind: 'internal' }, 1, { route: 'status' });
  expect(await pass()).toBe(0);
  expect(await database.query('select jid from whatsapp.connections')).toEqual([{ jid: null }]);
  expect(await pass()).toBe(0);
  scene.simulator.world.addConnection('conn_0');
  scene.simulator.world.applyChanges(30);
  scene.key.meShape = 'ids';
  connection!.state.paired = false;
  expect(await pass()).toBe(1);
  connection!.state.paired = true;
  expect(await pass()).toBe(0);
  await replicatedAs('conn_a', 'conn_a');
  await replicatedAs('conn_0', 'conn_0');
  expect(await rowsOf('default')).toEqual({});
});

test('by a pass of one that is named, too, and then none can mean it any more', async () => {
  const env = quickSettings(database.url, scene.simulator.url);
  const [connection] = scene.simulator.world.connections.values();
  const pass = (...args: string[]) => runCommand(['sync', ...args], env);
  expect(await pass('--connection', 'default')).toMatchObject({ status: 0 });
  await pass();
  const before = await contentOf('default');
  scene.simulator.world.addConnection('conn_0');
  scene.key.meShape = 'ids';
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
