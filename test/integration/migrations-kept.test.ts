import { promises as fs } from 'node:fs';
import path from 'node:path';
import { type Kysely, sql } from 'kysely';
import { FileMigrationProvider, Migrator } from 'kysely/migration';
import { expect, test } from 'vitest';
import { migrate } from '../../src/store/migrator.ts';
import { SCHEMA, type TestDatabase, useFreshDatabase } from '../support/database.ts';

/* An update of a replica that has rows: what was there before is there after, whichever version it comes from. */

const database = useFreshDatabase();
const folder = path.resolve('migrations');
const all = await new FileMigrationProvider({ fs, path, migrationFolder: folder }).getMigrations();
const names = Object.keys(all).sort();

/** Brings an empty database to an earlier version. */
async function makeOld(db: Kysely<unknown>, upTo: string): Promise<void> {
  await sql`create schema ${sql.id(SCHEMA)}`.execute(db);
  await db.transaction().execute(async (trx) => {
    const older = names.slice(0, names.indexOf(upTo) + 1).map((name) => {
      const up = async (at: Kysely<unknown>) => {
        await sql`set local search_path to ${sql.id(SCHEMA)}, pg_catalog`.execute(at);
        await all[name]!.up(at);
      };
      return [name, { up }] as const;
    });
    const provider = { getMigrations: async () => Object.fromEntries(older) };
    const { error } = await new Migrator({
      ...{ db: trx, provider, migrationTableSchema: SCHEMA },
    }).migrateToLatest();
    if (error !== undefined) throw error;
  });
}

interface Column {
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly key: boolean;
}

const columnsOf = (of: TestDatabase) =>
  of.query<Column & Record<string, unknown>>(`
    select c.relname as table, a.attname as name, format_type(a.atttypid, null) as type,
      exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and a.attnum = any(i.indkey))
        or (a.attnotnull and not a.atthasdef) as key
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relnamespace = '${SCHEMA}'::regnamespace and c.relkind = 'r' and c.relname !~ '^kysely'
      and a.attnum > 0 and not a.attisdropped and a.attidentity = ''
    order by c.relname, a.attnum`);

/** Values of a type that are odd, and of a JID where one is meant. */
const VALUES: Readonly<Record<string, string>> = {
  text: `'4915112345678@s.whatsapp.net'`,
  'text[]': `array['a', null]`,
  boolean: 'true',
  integer: '2147483647',
  bigint: '9007199254740993',
  bytea: `'\\x00ff'`,
  jsonb: `'{"a@lid": "👍", "n": 9007199254740993}'`,
  'timestamp with time zone': `timestamptz '2026-10-25 02:30:00.123456+02'`,
};

/** A row with everything, and one with no more than its key, in every table. */
async function fill(columns: readonly Column[]): Promise<void> {
  for (const table of new Set(columns.map((column) => column.table))) {
    const own = columns.filter((column) => column.table === table);
    for (const some of [own, own.filter(({ key }) => key)]) {
      const values = some.map(({ type, key }) =>
        key && type === 'text' && some.length < own.length ? `'k'` : VALUES[type],
      );
      expect(values, `a value for each type of ${table}`).not.toContain(undefined);
      await database.query(
        `insert into ${SCHEMA}.${table} (${some.map(({ name }) => name).join(', ')}) values (${values.join(', ')})`,
      );
    }
  }
}

async function contents(columns: readonly Column[]): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for (const table of new Set(columns.map((column) => column.table))) {
    const own = columns.filter((column) => column.table === table).map(({ name }) => name);
    const rows = await database.query<{ row: string }>(
      `select row(${own.join(', ')})::text as row from ${SCHEMA}.${table} order by 1`,
    );
    found.set(
      table,
      rows.map(({ row }) => row),
    );
  }
  return found;
}

test.each(names)('from %s', async (name) => {
  await makeOld(database.db as unknown as Kysely<unknown>, name);
  const columns = await columnsOf(database);
  await fill(columns);
  const before = await contents(columns);
  const missing = names.slice(names.indexOf(name) + 1);
  expect(await migrate(database.db, SCHEMA)).toEqual(missing);
  for (const [table, rows] of await contents(columns)) {
    expect(before.get(table)!.length).toBeGreaterThan(0);
    expect(rows, table).toEqual(expect.arrayContaining(before.get(table)!));
  }
  // Made from what was there, but for what came with them.
  if (name < '0003') {
    const made = 'select count(*)::integer as n from whatsapp';
    expect(await database.query(`${made}.jids`)).toEqual([{ n: 1 }]);
    expect(await database.query(`${made}.message_reactions`)).toEqual([{ n: 1 }]);
  }
});

test('a device that was heard of before 0013 is its account’s', async () => {
  await makeOld(database.db as unknown as Kysely<unknown>, '0012_participants_aside');
  await database.query(`insert into ${SCHEMA}.jids (connection_id, jid, person_id, phone_e164) values
    ('c', '49151@s.whatsapp.net', 'p1', '+49151'), ('c', '49151:4@s.whatsapp.net', null, null),
    ('c', '77@lid', 'p1', '+49151'), ('c', '77:5@lid', null, null), ('c', '77:6@lid', 'p2', '+49152'),
    ('d', '49151:4@s.whatsapp.net', null, null), ('d', '77:5@lid', null, null)`);
  expect(await migrate(database.db, SCHEMA)).toContain('0013_devices');
  const devices = await database.query<{
    row: string;
  }>(`select concat_ws(' ', connection_id, jid, person_id, phone_e164) as row
    from ${SCHEMA}.jids where jid like '%:%' order by connection_id, jid collate "C"`);
  expect(devices.map(({ row }) => row)).toEqual([
    'c 49151:4@s.whatsapp.net p1 +49151',
    'c 77:5@lid p1 +49151',
    'c 77:6@lid p2 +49152',
    'd 49151:4@s.whatsapp.net +49151',
    'd 77:5@lid',
  ]);
});
