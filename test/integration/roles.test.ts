import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { sql } from 'kysely';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, openTestDatabase, type TestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const FILE = path.join(import.meta.dirname, '../../deploy/sql/roles.sql');
const ROLES = ['owner', 'writer', 'reader'] as const;
type Role = (typeof ROLES)[number];
const PASSWORD = 'of-the-role';

let simulator: Simulator;
let database: TestDatabase;
/** Roles are the server's: each test has its own. */
let prefix: string;

beforeEach(async (context) => {
  database = await createTestDatabase();
  const [me] = await database.query<{ may: boolean }>(
    'select rolsuper or rolcreaterole as may from pg_roles where rolname = current_user',
  );
  context.skip(me?.may !== true, 'this role may not make others');
  simulator = await startSimulator({ messages: 200, connections: 2 });
  prefix = `wa_test_${randomBytes(4).toString('hex')}_`;
});
afterEach(async () => {
  await simulator?.close();
  for (const role of ROLES) {
    const [there] = await database.query('select from pg_roles where rolname = $1', [prefix + role]);
    if (there === undefined) continue;
    await database.query(`drop owned by ${prefix}${role} cascade`);
    await database.query(`drop role ${prefix}${role}`);
  }
  await database.drop();
});

const script = () => readFileSync(FILE, 'utf8').replaceAll('wa_replica_', prefix);

/** Runs the file, and gives the roles passwords. */
async function makeRoles(): Promise<void> {
  await database.query(script());
  for (const role of ROLES) await database.query(`alter role ${prefix}${role} password '${PASSWORD}'`);
}

function urlOf(role: Role): string {
  return Object.assign(new URL(database.url), { username: prefix + role, password: PASSWORD }).href;
}

/** What becomes of a statement: its SQLSTATE, or none where it is done. */
async function attempt(role: Role, statement: string): Promise<string | undefined> {
  const client = new pg.Client({ connectionString: urlOf(role) });
  await client.connect();
  try {
    await client.query(statement);
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  } finally {
    await client.end();
  }
}

const migrate = () => runCommand(['migrate'], { DATABASE_URL: urlOf('owner') });

test('the owner migrates, the writer runs the daemon, the reader sees the rows', async () => {
  await makeRoles();
  expect(await migrate()).toMatchObject({ status: 0 });
  await makeRoles();
  const env = { ...quickSettings(urlOf('writer'), simulator.url), MIGRATE_ON_START: 'false' };
  const daemon = startCli(['run'], env);
  const reader = openTestDatabase(urlOf('reader'));
  const agrees = async () => (await differencesFromTruth(reader, simulator)).length === 0;
  await waitFor(agrees, { what: 'the backlog' });
  simulator.world.applyChanges(100);
  simulator.world.connections.values().next().value?.injectRaw('message', '{"message_id":""}');
  await waitFor(agrees, { what: 'the changes' });
  await waitFor(async () => (await sql`select from whatsapp.quarantine`.execute(reader)).rows.length === 1, {
    what: 'the bad record',
  });
  await reader.destroy();
  // Beside it, what an operator does with the same role.
  const id = [...simulator.world.connections.keys()][0] ?? '';
  expect(await runCommand(['doctor'], env)).toMatchObject({ status: 0 });
  expect(await runCommand(['status'], env)).toMatchObject({ status: 0 });
  expect(await runCommand(['resync', '--connection', id, '--yes'], env)).toMatchObject({ status: 0 });
  expect(await runCommand(['quarantine', 'discard', '--yes'], env)).toMatchObject({ status: 0 });
  expect(await daemon.kill('SIGTERM')).toBe(0);
  for (const word of ['42501', 'failed', 'cannot', 'internal']) expect(daemon.stderr).not.toContain(word);
});

test('the writer creates, changes and drops nothing', async () => {
  await makeRoles();
  await migrate();
  await makeRoles();
  for (const statement of [
    'create table whatsapp.mine (id integer)',
    'create schema mine',
    'drop table whatsapp.messages',
    'drop schema whatsapp cascade',
    'truncate whatsapp.messages',
    'alter table whatsapp.messages add column mine text',
    'create index on whatsapp.messages (body)',
    `create function whatsapp.mine() returns integer language sql as 'select 1'`,
    'create role mine',
    `alter default privileges for role ${prefix}owner grant select on tables to public`,
    `grant select on whatsapp.messages to public`,
    `set role ${prefix}owner`,
    `insert into whatsapp.kysely_migration values ('9999_mine', '')`,
    'delete from whatsapp.kysely_migration',
    'update whatsapp.kysely_migration_lock set is_locked = 1',
  ]) {
    // Not the owner, or without the privilege; a grant without the right to grant is only warned about.
    const state = await attempt('writer', statement);
    const granted = statement.startsWith('grant') ? [undefined, '42501'] : ['42501'];
    expect([statement, granted.includes(state)]).toEqual([statement, true]);
  }
  const open = await database.query(`select from information_schema.role_table_grants
    where table_schema = 'whatsapp' and grantee = 'PUBLIC'`);
  expect(open).toEqual([]);
  // Started as it would be by default, it finds nothing to migrate and goes on.
  expect(await runCommand(['sync'], quickSettings(urlOf('writer'), simulator.url))).toMatchObject({
    status: 0,
  });
});

test('the reader reads, and nothing else', async () => {
  await makeRoles();
  await migrate();
  const tables = await database.query<{ name: string; view: boolean }>(
    `select table_name as name, table_type = 'VIEW' as view
      from information_schema.tables where table_schema = 'whatsapp'`,
  );
  expect(tables.filter(({ view }) => !view).length).toBeGreaterThan(9);
  expect(tables.filter(({ view }) => view).length).toBeGreaterThan(3);
  for (const { name, view } of tables) {
    expect([name, await attempt('reader', `select * from whatsapp.${name} limit 1`)]).toEqual([
      name,
      undefined,
    ]);
    // Of most views nothing can be deleted, whoever asks.
    const refusals = view ? ['42501', '42809', '55000'] : ['42501'];
    for (const verb of ['delete from', 'truncate']) {
      const state = await attempt('reader', `${verb} whatsapp.${name}`);
      expect([name, verb, refusals.includes(state!)]).toEqual([name, verb, true]);
    }
  }
  for (const statement of [
    `insert into whatsapp.workers (worker_id) values ('mine')`,
    `update whatsapp.sync_state set cursor = 0`,
    'create table whatsapp.mine (id integer)',
    'select 1 from whatsapp.messages for update',
    `update whatsapp.change_positions set change_no = 7`,
  ]) {
    expect([statement, await attempt('reader', statement)]).toEqual([statement, '42501']);
  }
  // But it consumes the change feed, by the functions that keep its positions.
  const change = `insert into whatsapp.changes values ('a', 1, 'message', 'm', 'inserted')`;
  await database.query(`insert into whatsapp.sync_state (connection_id, last_change_no) values ('a', 1)`);
  expect(await attempt('writer', change)).toBeUndefined();
  for (const role of ['reader', 'writer'] as const) {
    for (const call of [
      `select whatsapp.register_consumer('${role}')`,
      `do $$ begin assert (select record_id from whatsapp.read_changes('${role}')) = 'm'; end $$`,
      `select whatsapp.ack_changes('${role}', 'a', 1)`,
      `select whatsapp.restart_consumer('${role}')`,
      `select whatsapp.drop_consumer('${role}')`,
    ]) {
      expect([call, await attempt(role, call)]).toEqual([call, undefined]);
    }
  }
  // And it searches, and sees what is linked.
  for (const query of [
    `select * from whatsapp.search_messages('word', crm_id => '1')`,
    `select * from whatsapp.search_messages('wor', parts => true)`,
    `select * from whatsapp.crm_timeline where crm_id = '1'`,
  ]) {
    expect([query, await attempt('reader', query)]).toEqual([query, undefined]);
  }
  // The writer links, and merges what is new into the index, which only its owner may.
  expect(await attempt('writer', 'select whatsapp.tend_search()')).toBeUndefined();
  const crm = { CRM_CONTACTS_QUERY: `select 1, '+4930123456'` };
  expect(await runCommand(['link'], { DATABASE_URL: urlOf('writer'), ...crm })).toMatchObject({ status: 0 });
  expect(await attempt('reader', 'delete from whatsapp.crm_links')).toBe('42501');
  // Nobody else: the functions have their owner's rights.
  const [{ open }] = (await database.query(
    `select count(*)::integer as open from pg_proc p, aclexplode(p.proacl) a
      where p.pronamespace = 'whatsapp'::regnamespace and a.grantee = 0`,
  )) as [{ open: number }];
  expect(open).toBe(0);
});

test('where the owner may not create pg_trgm it says so, and words are searched', async () => {
  await makeRoles();
  const migrateParts = () => runCommand(['migrate'], { DATABASE_URL: urlOf('owner'), SEARCH: 'parts' });
  const without = await migrateParts();
  expect(without).toMatchObject({ status: 0, stdout: expect.stringContaining('messages_by_words') });
  expect(without.stdout).not.toContain('messages_by_parts');
  expect(without.stderr).toContain('`create extension pg_trgm` in this database');
  await database.query('create extension pg_trgm');
  expect(await migrateParts()).toMatchObject({
    stdout: expect.stringContaining('messages_by_parts'),
    stderr: '',
  });
});

test('tables of later migrations are covered, without running the file again', async () => {
  await makeRoles();
  await migrate();
  expect(
    await attempt('owner', 'create table whatsapp.later (id bigint generated always as identity, x text)'),
  ).toBeUndefined();
  expect(await attempt('writer', `insert into whatsapp.later (x) values ('a')`)).toBeUndefined();
  expect(await attempt('writer', `update whatsapp.later set x = 'b'`)).toBeUndefined();
  expect(await attempt('writer', 'drop table whatsapp.later')).toBe('42501');
  expect(await attempt('reader', 'select * from whatsapp.later')).toBeUndefined();
  expect(await attempt('reader', 'delete from whatsapp.later')).toBe('42501');
});

test('a replica that one role made is handed over; running the file again changes nothing', async () => {
  expect(await runCommand(['sync'], quickSettings(database.url, simulator.url))).toMatchObject({ status: 0 });
  await makeRoles();
  const privileges = () =>
    database.query(`select relname, relowner::regrole, relacl::text from pg_class
      where relnamespace = 'whatsapp'::regnamespace order by 1`);
  const before = await privileges();
  await makeRoles();
  expect(await privileges()).toEqual(before);
  expect(await attempt('owner', 'alter table whatsapp.messages add column later text')).toBeUndefined();
  expect(await migrate()).toMatchObject({ status: 0 });
  simulator.world.applyChanges(50);
  expect(await runCommand(['sync'], quickSettings(urlOf('writer'), simulator.url))).toMatchObject({
    status: 0,
  });
  // What a role may do besides is not this file's: no other schema of the database was touched.
  const [others] = await database.query(`select count(*)::integer as n from pg_namespace
    where nspowner = '${prefix}owner'::regrole and nspname <> 'whatsapp'`);
  expect(others).toEqual({ n: 0 });
});

test('what was restored without privileges is as it was; the writer moves numbers on', async () => {
  expect(await runCommand(['migrate'], { DATABASE_URL: database.url })).toMatchObject({ status: 0 });
  await database.query('grant execute on all functions in schema whatsapp to public');
  // Somebody's own, that is no function.
  await database.query(`create procedure whatsapp.of_the_crm() language sql as 'select 1'`);
  await database.query(
    `insert into whatsapp.gaps (connection_id, gap_id) overriding system value values ('a', 7)`,
  );
  await makeRoles();
  expect(
    await database.query(`select p.proname from pg_proc p cross join lateral aclexplode(p.proacl) a
      where p.pronamespace = 'whatsapp'::regnamespace and p.prosecdef and a.grantee = 0`),
  ).toEqual([]);
  const env = { ...quickSettings(urlOf('writer'), simulator.url), MIGRATE_ON_START: 'false' };
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  expect(await database.query(`select nextval('whatsapp.gaps_gap_id_seq')::integer as next`)).toEqual([
    { next: 8 },
  ]);
  expect(await attempt('reader', `select setval('whatsapp.gaps_gap_id_seq', 1)`)).toBe('42501');
});

test('partitions that another role made are handed over', async () => {
  await makeRoles();
  await migrate();
  const scaling = readFileSync(path.join(import.meta.dirname, '../../docs/scaling.md'), 'utf8');
  const [, statements] = /```sql\n(begin;\n[\s\S]*?commit;\n)```/.exec(scaling)!;
  await database.query(statements!.replace('integer := 16', 'integer := 2'));
  await makeRoles();
  expect(await attempt('owner', 'alter table whatsapp.messages add column later text')).toBeUndefined();
  expect(await runCommand(['sync'], quickSettings(urlOf('writer'), simulator.url))).toMatchObject({
    status: 0,
  });
  expect(await attempt('reader', 'select * from whatsapp.message_feed')).toBeUndefined();
});

test('a role that is no superuser can run it, where it may create roles and owns the database', async () => {
  const admin = `${prefix}admin`;
  await database.query(`create role ${admin} login createrole password '${PASSWORD}'`);
  await database.query(`alter database ${database.name} owner to ${admin}`);
  const url = Object.assign(new URL(database.url), { username: admin, password: PASSWORD }).href;
  for (let times = 0; times < 2; times++) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query(script());
    for (const role of ROLES) await client.query(`alter role ${prefix}${role} password '${PASSWORD}'`);
    await client.end();
    expect(await migrate()).toMatchObject({ status: 0 });
  }
  expect(await runCommand(['sync'], quickSettings(urlOf('writer'), simulator.url))).toMatchObject({
    status: 0,
  });
  expect(await attempt('writer', 'delete from whatsapp.kysely_migration')).toBe('42501');
  await database.query(`alter database ${database.name} owner to current_user`);
  for (const role of ROLES)
    await database.query(`drop owned by ${prefix}${role} cascade; drop role ${prefix}${role}`);
  await database.query(`drop owned by ${admin} cascade; drop role ${admin}`);
});

test.skipIf(spawnSync('psql', ['--version']).status !== 0)(
  'the file is one that psql runs, as it says',
  async () => {
    const run = () =>
      spawnSync('psql', [database.url, '-v', 'ON_ERROR_STOP=1', '-q'], { input: script(), encoding: 'utf8' });
    for (let times = 0; times < 2; times++) {
      const { status, stdout, stderr } = run();
      // That the schema is there is only noted.
      expect({ status, stdout, stderr: stderr.replace(/^.*NOTICE: .*\n/gm, '') }).toEqual({
        status: 0,
        stdout: '',
        stderr: '',
      });
    }
  },
);
