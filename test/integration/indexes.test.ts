import { Writable } from 'node:stream';
import pg from 'pg';
import { beforeEach, describe, expect, test } from 'vitest';
import { indexing } from '../../src/cli/indexing.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import {
  buildIndexes,
  indexStands,
  LARGE_INDEXES,
  type LargeIndex,
  SEARCH_INDEX,
} from '../../src/store/indexes.ts';
import { openTestDatabase, SCHEMA, useFreshDatabase } from '../support/database.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const BY_SENDER: LargeIndex = {
  name: 'messages_by_sender',
  table: 'messages',
  definition: '(connection_id, sender_jid) where deleted_at is null',
};
const BY_PHONE: LargeIndex = {
  name: 'contacts_by_phone',
  table: 'contacts',
  definition: '(connection_id, phone_e164)',
};

const database = useFreshDatabase({ migrated: true });

const found = () =>
  database.query<{ name: string; valid: boolean; oid: string }>(`
    select c.relname as name, i.indisvalid as valid, c.oid::text as oid from pg_index i
    join pg_class c on c.oid = i.indexrelid where c.relname in ('messages_by_sender', 'contacts_by_phone') order by 1`);

test('builds what is missing, once', async () => {
  expect(await buildIndexes(database.db, SCHEMA, [BY_SENDER])).toEqual(['messages_by_sender']);
  const before = await found();
  expect(before).toMatchObject([{ name: 'messages_by_sender', valid: true }]);
  expect(await buildIndexes(database.db, SCHEMA, [BY_SENDER, BY_PHONE])).toEqual(['contacts_by_phone']);
  expect(await buildIndexes(database.db, SCHEMA, [BY_SENDER, BY_PHONE])).toEqual([]);
  expect((await found())[1]).toEqual(before[0]);
});

test('what an attempt that was cut off has left is built again', async () => {
  // A row that a unique index refuses leaves it invalid, as a server that is stopped in mid-build does.
  await database.query(
    `insert into whatsapp.contacts (connection_id, person_id) values ('c', 'a'), ('c', 'b')`,
  );
  const unique = 'create unique index concurrently contacts_by_phone on whatsapp.contacts (connection_id)';
  await expect(database.query(unique)).rejects.toMatchObject({ code: '23505' });
  // The error is told before the attempt has ended.
  const underWay = 'select from pg_stat_progress_create_index where datname = current_database()';
  await waitFor(async () => (await database.query(underWay)).length === 0, { what: 'the attempt to end' });
  expect(await found()).toMatchObject([{ valid: false }]);
  expect(await buildIndexes(database.db, SCHEMA, [BY_PHONE])).toEqual(['contacts_by_phone']);
  expect(await found()).toMatchObject([{ valid: true }]);
});

test('however long it takes, whatever the role has for its timeouts', async () => {
  const names = ['statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'];
  const known = await database.query<{ name: string }>('select name from pg_settings where name = any($1)', [
    names,
  ]);
  for (const { name } of known) await database.query(`alter database ${database.name} set ${name} = '1s'`);
  const patient = openTestDatabase(database.url);
  const writer = new pg.Client({ connectionString: database.url });
  await writer.connect();
  for (const { name } of known) await writer.query(`set ${name} = 0`);
  await writer.query('begin');
  await writer.query(`insert into whatsapp.messages (connection_id, message_id) values ('c', 'open')`);
  const building = buildIndexes(patient, SCHEMA, [BY_SENDER]);
  const waits = `select from pg_stat_activity where datname = current_database()
    and query like 'create index%' and clock_timestamp() - query_start > interval '1.5 seconds'`;
  try {
    const longEnough = async () => (await database.query(waits)).length > 0;
    await Promise.race([waitFor(longEnough, { what: 'the building to take long' }), building]);
    await writer.query('commit');
    expect(await building).toEqual(['messages_by_sender']);
  } finally {
    await writer.end();
    await patient.destroy();
  }
});

test('writes go on while it is built, and others neither wait nor build it too', async () => {
  // An open write keeps the builder waiting.
  const writer = new pg.Client({ connectionString: database.url });
  await writer.connect();
  await writer.query('begin');
  await writer.query(`insert into whatsapp.messages (connection_id, message_id) values ('c', 'open')`);
  const building = buildIndexes(database.db, SCHEMA, [BY_SENDER]);
  await waitFor(async () => (await found()).length === 1, { what: 'the index to be begun' });
  expect(await found()).toMatchObject([{ valid: false }]);
  // Nobody's write is kept waiting, which a migration's index would do.
  await database.query(
    `set lock_timeout = '2s'; insert into whatsapp.messages (connection_id, message_id) values ('c', 'm')`,
  );
  const other = openTestDatabase(database.url);
  expect(await buildIndexes(other, SCHEMA, [BY_SENDER])).toEqual([]);
  await other.destroy();
  await writer.query('commit');
  await writer.end();
  expect(await building).toEqual(['messages_by_sender']);
  expect(await found()).toMatchObject([{ valid: true }]);
});

test('several that start at once build each once', async () => {
  const others = [1, 2, 3].map(() => openTestDatabase(database.url));
  const built = await Promise.all(others.map((one) => buildIndexes(one, SCHEMA, [BY_SENDER, BY_PHONE])));
  expect(built.flat().sort()).toEqual(['contacts_by_phone', 'messages_by_sender']);
  for (const other of others) await other.destroy();
  expect((await found()).map(({ valid }) => valid)).toEqual([true, true]);
});

test('those of this version can be built', async () => {
  await buildIndexes(database.db, SCHEMA);
  expect(await buildIndexes(database.db, SCHEMA)).toEqual([]);
  expect(new Set(LARGE_INDEXES.map(({ name }) => name)).size).toBe(LARGE_INDEXES.length);
});

describe('the daemon', () => {
  const PAUSES = { first: 10, longest: 100 };
  const { signal } = new AbortController();
  let said = '';
  const stream = new Writable({
    write(line, _, done) {
      said += line;
      done();
    },
  });
  const log = createLogger({ level: 'info', format: 'json', stream });
  const settings = () =>
    loadSettings({ DATABASE_URL: database.url }, { database: true, upstream: false }).settings;
  beforeEach(() => {
    said = '';
  });

  test('tries again where Postgres is away', async () => {
    const proxied = new URL(database.url);
    const proxy = await startTcpProxy({ host: proxied.hostname, port: Number(proxied.port) });
    proxied.port = String(proxy.port);
    const maintenance = openTestDatabase(proxied.href);
    try {
      await proxy.refuse();
      const done = indexing({ settings: settings(), maintenance }, log, signal, PAUSES);
      await waitFor(() => said.includes('cannot build or drop indexes'), { what: 'it to say so' });
      expect(said).toContain('"kind":"database","error":"building indexes: ECONNREFUSED"');
      await proxy.heal();
      await done;
      expect(await indexStands(database.db, SCHEMA, SEARCH_INDEX)).toBe(true);
    } finally {
      await maintenance.destroy();
      await proxy.close();
    }
  });

  test('builds what another process was at and left', async () => {
    const other = new pg.Client({ connectionString: database.url });
    await other.connect();
    await other.query('begin');
    await other.query(`select pg_advisory_xact_lock(hashtext('wa_replica indexes'), hashtext('${SCHEMA}'))`);
    let isDone = false;
    const done = indexing({ settings: settings(), maintenance: database.db }, log, signal, PAUSES).then(
      () => {
        isDone = true;
      },
    );
    const looks = async () =>
      (
        await database.query(`select 1 from pg_stat_activity where datname = current_database()
          and query ilike '%indisvalid%' and application_name = 'wa-replica test'`)
      ).length > 0;
    await waitFor(looks, { what: 'it to have looked' });
    expect([isDone, await indexStands(database.db, SCHEMA, SEARCH_INDEX)]).toEqual([false, false]);
    await other.end();
    await done;
    expect(await indexStands(database.db, SCHEMA, SEARCH_INDEX)).toBe(true);
  });
});
