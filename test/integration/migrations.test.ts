import type { Kysely } from 'kysely';
import { afterEach, expect, test } from 'vitest';
import { migrate, migrationState, requireCurrentSchema, schemaVersion } from '../../src/store/migrator.ts';
import type { Database } from '../../src/store/schema.ts';
import { runCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, openTestDatabase, SCHEMA, type TestDatabase } from '../support/database.ts';

const opened: { db: Kysely<Database>; database: TestDatabase }[] = [];

async function fresh(migrated = false) {
  const database = await createTestDatabase({ migrated });
  const db = openTestDatabase(database.url);
  opened.push({ db, database });
  return { db, database };
}

afterEach(async () => {
  for (const { db, database } of opened.splice(0)) {
    await db.destroy();
    await database.drop();
  }
});

test.each(['read committed', 'repeatable read'])(
  'several that start at once migrate once: %s',
  async (level) => {
    const { db, database } = await fresh();
    // Of a role's or a database's own; the one that waited has to see what the other one did.
    await database.query(`alter database ${database.name} set default_transaction_isolation = '${level}'`);
    const others = [openTestDatabase(database.url), openTestDatabase(database.url)];
    const done = await Promise.all([db, ...others].map((one) => migrate(one, SCHEMA)));
    for (const other of others) await other.destroy();
    const names = (await migrationState(db, SCHEMA)).map((state) => state.name);
    expect(done.flat().sort()).toEqual(names);
    expect(await migrate(db, SCHEMA)).toEqual([]);
  },
);

test('a role that may not make the schema is told so, and where to look', async () => {
  const { database } = await fresh();
  const role = `weak_${database.name}`;
  await database.query(`create role ${role} login password 'weak'`);
  try {
    const url = new URL(database.url);
    url.username = role;
    url.password = 'weak';
    expect(await runCommand(['migrate'], { DATABASE_URL: url.href })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /migration_failed: preparing the schema \w+: 42501\n.*`wa-replica doctor`/,
      ),
    });
    // Nor where it is there, as roles.sql makes it, and the role may make nothing in it.
    await database.query(`create schema whatsapp; grant usage on schema whatsapp to ${role}`);
    expect(await runCommand(['migrate'], { DATABASE_URL: url.href })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /migration_failed: preparing the schema \w+: 42501\n.* may make nothing there: migrate as the owner/,
      ),
    });
    await database.query('drop schema whatsapp');
  } finally {
    await database.query(`drop role ${role}`);
  }
});

test('a schema newer than the program is refused, by name', async () => {
  const { db, database } = await fresh(true);
  await database.query(`insert into whatsapp.kysely_migration values ('9999_future', now()::text)`);
  await expect(migrate(db, SCHEMA)).rejects.toMatchObject({
    kind: 'schema_newer',
    message: expect.stringMatching(/9999_future/),
  });
  await expect(requireCurrentSchema(db, SCHEMA)).rejects.toMatchObject({ kind: 'schema_newer' });
  const { status, stderr } = await runCommand(['migrate'], { DATABASE_URL: database.url });
  expect({ status, stderr }).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/schema_newer.*9999_future/),
  });
});

test('a migration that fails changes nothing and stops the daemon', async () => {
  const { db, database } = await fresh();
  await database.query('create schema whatsapp; create table whatsapp.messages (mine text)');
  const env = {
    DATABASE_URL: database.url,
    WHATSAPP_USE_API_KEY: 'k',
    WHATSAPP_USE_BASE_URL: 'http://127.0.0.1:9',
    HTTP_PORT: 'off',
  };
  const { status, stderr } = await runCli(['run'], env);
  expect({ status, stderr }).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      /migration_failed: migration 0001_replica: 42P07\n.*another WA_REPLICA_SCHEMA/,
    ),
  });
  expect((await schemaVersion(db, SCHEMA)).pending).toContain('0001_replica');
  expect(await database.query(`select to_regclass('whatsapp.sync_state') as it`)).toEqual([{ it: null }]);
});

test('migrate --status lists, and exits 1 while something is pending', async () => {
  const { database } = await fresh();
  const env = { DATABASE_URL: database.url };
  expect(await runCommand(['migrate', '--status'], env)).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/0001_replica +pending/),
  });
  expect(await runCommand(['migrate'], env)).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/migrated: 0001_replica/),
  });
  expect(await runCommand(['migrate', '--status'], env)).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/0001_replica +applied/),
  });
  expect(await runCommand(['migrate'], env)).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/up to date/),
  });
});

test('without MIGRATE_ON_START, a schema that is behind is refused with the remedy', async () => {
  const { database } = await fresh();
  const env = {
    DATABASE_URL: database.url,
    WHATSAPP_USE_API_KEY: 'k',
    MIGRATE_ON_START: 'false',
    HTTP_PORT: 'off',
  };
  expect(await runCli(['run'], env)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/schema_pending[\s\S]*wa-replica migrate/),
  });
});

test('another schema name keeps everything in it', async () => {
  const { database } = await fresh();
  const env = { DATABASE_URL: database.url, WA_REPLICA_SCHEMA: 'crm_whatsapp' };
  expect(await runCommand(['migrate'], env)).toMatchObject({ status: 0 });
  const tables = await database.query<{ table_schema: string }>(
    `select distinct table_schema from information_schema.tables where table_schema !~ '^(pg_|information_)'`,
  );
  expect(tables).toEqual([{ table_schema: 'crm_whatsapp' }]);
});
