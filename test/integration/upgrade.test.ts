import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useDaemons } from '../support/daemons.ts';
import { createTestDatabase, openTestDatabase, type TestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

let simulator: Simulator;
let database: TestDatabase;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 300, connections: 2 });
});
afterAll(() => simulator.close());
beforeEach(async () => {
  database = await createTestDatabase();
});
const daemons = useDaemons(() => quickSettings(database.url, simulator.url));
afterEach(async () => {
  await daemons.stopAll();
  await database.drop();
});

async function agree(): Promise<void> {
  const db = openTestDatabase(database.url);
  const agrees = async () => (await differencesFromTruth(db, simulator)).length === 0;
  await waitFor(agrees, { what: 'the tables to equal the truth' });
  await db.destroy();
}

/** What the next version's migration would do: its name is in the list, and a column is no longer what it was. */
const MIGRATED = `begin;
  insert into whatsapp.kysely_migration values ('9999_next', now()::text);
  alter table whatsapp.messages rename column body to text;
  commit`;

test('an old worker stops when the schema moves under it, and says which version is wanted', async () => {
  const daemon = daemons.start();
  await agree();
  await database.query(MIGRATED);
  simulator.world.applyChanges(50);
  expect(await daemon.ended).toBe(1);
  expect(daemon.stderr).toMatch(
    /"level":"fatal".*"kind":"schema_newer","error":"the schema has 9999_next, this program ends at \d{4}_\w+".*"msg":"the schema is newer"/,
  );
  // The last line is for whoever looks at the console.
  expect(daemon.stderr.trimEnd().split('\n').slice(-2)).toEqual([
    expect.stringMatching(
      /^wa-replica: schema_newer: the schema has 9999_next, this program ends at \d{4}_\w+$/,
    ),
    '  run the version of wa-replica that made it, or a newer one',
  ]);
  // As at any other end: nothing is held, and nobody is listed.
  expect(daemon.stderr).toContain('"msg":"stopped"');
  expect(await database.query('select from whatsapp.sync_state where lease_owner is not null')).toEqual([]);
  expect(await database.query('select from whatsapp.workers')).toEqual([]);
  // What it could not write is not lost: the cursor stands before it.
  await database.query(`alter table whatsapp.messages rename column text to body`);
  await database.query(`delete from whatsapp.kysely_migration where name = '9999_next'`);
  daemons.start();
  await agree();
});

test('a column that is missing without a newer migration is waited for, as any failure of the database', async () => {
  const daemon = daemons.start();
  await agree();
  await database.query('alter table whatsapp.messages rename column body to text');
  simulator.world.applyChanges(50);
  await daemon.logged('turn failed');
  expect(daemon.stderr).toContain('42703');
  await database.query('alter table whatsapp.messages rename column text to body');
  await agree();
  expect(await daemon.kill('SIGTERM')).toBe(0);
});

test('a rolling upgrade: the old one drains and the new one takes over at once', async () => {
  const old = daemons.start({ LEASE_TTL: '30s' });
  await agree();
  // As one that waits for its predecessor to go.
  daemons.start({ LEASE_TTL: '30s' });
  await waitFor(async () => (await database.query('select from whatsapp.workers')).length === 2, {
    what: 'both',
  });
  expect(await old.kill('SIGTERM')).toBe(0);
  simulator.world.applyChanges(50);
  const before = performance.now();
  await agree();
  expect(performance.now() - before).toBeLessThan(10_000);
});
