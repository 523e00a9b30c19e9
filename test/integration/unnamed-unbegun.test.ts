/** `default` of which nothing was ever stored: ids that are listed take its place. */
import { expect, test } from 'vitest';
import { beginInstead, ensureConnections } from '../../src/store/connections.ts';
import { runCommand } from '../support/command.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { UnnamedScene } from './unnamed-scene.ts';

const scene = new UnnamedScene();
const { database, replicatedAs, rowsOf, start } = scene;

test('of which nothing was ever stored, it keeps nobody waiting: an organization may have had no account yet', async () => {
  // Without the header the simulator answers 400: two could be meant.
  scene.simulator.world.addConnection('conn_b');
  scene.simulator.world.applyChanges(40, 'conn_b');
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
  scene.key.meShape = 'ids';
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
  scene.simulator.faults.script({ kind: 'internal' }, 50, { route: 'status' });
  const env = quickSettings(database.url, scene.simulator.url);
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
