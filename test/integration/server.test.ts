import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { upkeepJobs } from '../../src/cli/jobs.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import type { WorkerJob } from '../../src/ops/upkeep.ts';
import { assemble } from '../../src/replica/replica.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { type ServerFacts, unfit } from '../../src/store/server.ts';
import { runCommand } from '../support/command.ts';
import { useDaemons } from '../support/daemons.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';

let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 200, connections: ['conn_a'] });
});
afterAll(() => simulator.close());

const daemons = useDaemons(() => ({}));

const settings = ({ url }: TestDatabase) => quickSettings(url, simulator.url);

describe('a database that cannot hold every text', () => {
  test.each(['LATIN1', 'SQL_ASCII'])('%s is refused before anything is touched', async (encoding) => {
    const database = await createTestDatabase({ encoding });
    onTestFinished(() => database.drop());
    const what = `${database.name} has the encoding ${encoding}, which cannot hold every text`;
    const remedy = "use a database of UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;";
    for (const command of ['migrate', 'sync']) {
      const { status, stderr } = await runCommand([command], settings(database));
      expect([command, status]).toEqual([command, 1]);
      expect(stderr).toContain(what);
      expect(stderr).toContain(remedy);
    }
    const { status, stdout } = await runCommand(['doctor'], settings(database));
    expect(status).toBe(1);
    expect(stdout).toContain(`✗ database: ${what}\n    ${remedy}\n`);
    expect(await database.query(`select from pg_namespace where nspname = 'whatsapp'`)).toEqual([]);
  });
});

test('a Postgres that is too old is unfit', () => {
  const facts: ServerFacts = {
    ...{ version: 140_000, name: '14.0', database: 'crm', encoding: 'UTF8' },
    ...{ readOnly: false, now: new Date() },
  };
  expect(unfit(facts)).toBeUndefined();
  expect(unfit({ ...facts, version: 130_014, name: '13.14' })).toEqual({
    what: 'PostgreSQL 13.14 is too old',
    remedy: 'use PostgreSQL 14 or newer',
  });
});

test('indexes that may be out of order are told of', async ({ skip }) => {
  const database = await createTestDatabase({ migrated: true });
  onTestFinished(() => database.drop());
  const [versions] = await database.query<{ actual: string | null }>(
    `select to_jsonb(d) ->> 'datcollversion' as actual from pg_database d where datname = current_database()`,
  );
  const actual = versions!.actual;
  if (actual === null) return skip('the server notes no version of a collation');
  // Another's is another's.
  const other = await createTestDatabase();
  onTestFinished(() => other.drop());
  await other.query(`update pg_database set datcollversion = '2.28' where datname = current_database()`);
  const healthy = await runCommand(['doctor'], settings(database));
  expect(healthy.stdout).not.toContain('collation');
  await database.query(`update pg_database set datcollversion = '2.28' where datname = current_database()`);
  const what = `${database.name} was made with version 2.28 of its collation, and the system has ${actual}: indexes may be out of order, keys too`;
  const { status, stdout } = await runCommand(['doctor'], settings(database));
  expect(status).toBe(1);
  expect(stdout).toContain(
    `✗ collation: ${what}\n    with all workers stopped, as the owner: REINDEX DATABASE`,
  );
  const daemon = daemons.start(settings(database));
  await daemon.logged('the collation has changed');
  expect(daemon.stderr).toContain(`"error":"${what}"`);
  await daemon.logged('replicating');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(await toldByUpkeep(settings(database))).toContain(`"error":"${what}"`);
  // What it says to do.
  await database.query(`alter database ${database.name} refresh collation version`);
  expect((await runCommand(['doctor'], settings(database))).status).toBe(0);
});

/** What the hourly look at the collation logs. */
async function toldByUpkeep(env: Record<string, string>): Promise<string> {
  let logged = '';
  const stream = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  const replica = assemble({
    settings: loadSettings(env, { database: true, upstream: true }).settings,
    ...{ env, listen: () => {}, onIdleError: () => {} },
  });
  const jobs = upkeepJobs(replica, createLogger({ level: 'info', format: 'json', stream }));
  await (jobs.find(({ name }) => name === 'collation') as WorkerJob).run(new AbortController().signal);
  await replica.close();
  return logged;
}

/*
 * What a database, a role or a server may have for its defaults. Each of these changes how values or statements are read
 * or written.
 */
test('the defaults of a database change nothing of what is stored and told', async () => {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const defaults = [
    `datestyle = 'SQL, DMY'`,
    `intervalstyle = 'sql_standard'`,
    `timezone = 'Asia/Kathmandu'`,
    `bytea_output = 'escape'`,
    `default_transaction_isolation = 'serializable'`,
    'array_nulls = off',
    'transform_null_equals = on',
    'quote_all_identifiers = on',
    `default_text_search_config = 'pg_catalog.german'`,
    'extra_float_digits = -3',
  ];
  const old = await database.query(`select where current_setting('server_version_num')::integer < 190000`);
  if (old.length > 0) defaults.push('standard_conforming_strings = off', 'escape_string_warning = off');
  for (const one of defaults) await database.query(`alter database ${database.name} set ${one}`);
  const from = Date.now();
  const { status, stderr } = await runCommand(['sync'], settings(database));
  expect([status, stderr]).toEqual([0, '']);
  expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
  const { stdout } = await runCommand(['status', '--json'], settings(database));
  const [connection] = JSON.parse(stdout).connections;
  expect(connection).toMatchObject({ state: 'live', rows: { messages: '200' } });
  expect(Date.parse(connection.caught_up_at)).toBeGreaterThanOrEqual(from);
  expect(Date.parse(connection.caught_up_at)).toBeLessThanOrEqual(Date.now());
  expect((await runCommand(['verify'], settings(database))).status).toBe(0);
});
