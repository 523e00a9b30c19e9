import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { LARGE_INDEXES, PARTS_INDEX, SEARCH_INDEX, tendIndexes } from '../../src/store/indexes.ts';
import { searchMessages } from '../../src/store/search.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { retryDeadLetter } from '../../src/sync/retry.ts';
import { SCHEMA, useFreshDatabase } from '../support/database.ts';
import { applyAnswer, contextOf } from '../support/pages.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

/* The statements of docs/scaling.md, as they stand there, and everything that writes, on what they make. */

const DOCUMENT = path.join(import.meta.dirname, '../../docs/scaling.md');
const STATEMENTS = /```sql\n(begin;\n[\s\S]*?commit;\n)```/.exec(readFileSync(DOCUMENT, 'utf8'))![1]!;

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
const workers: TestWorker[] = [];

beforeEach(async () => {
  simulator = await startSimulator({ connections: 6, messages: 1_200 });
});
afterEach(async () => {
  await stop();
  await simulator.close();
});

async function start(): Promise<TestWorker> {
  const worker = await startWorker(quickSettings(database.url, simulator.url), { discovers: false });
  workers.push(worker);
  return worker;
}

async function stop(): Promise<void> {
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
}

const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });

/** Columns, keys and indexes by table, without what only a partition has. */
const shape = () =>
  database.query(`
    select c.relname, array_agg(i.indexrelid::regclass::text order by i.indexrelid::regclass::text) as indexes,
      (select array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || a.attidentity::text::text
        || coalesce(col_description(c.oid, a.attnum), '') order by a.attnum)
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0) as columns
    from pg_class c join pg_index i on i.indrelid = c.oid
    where c.relnamespace = 'whatsapp'::regnamespace and not c.relispartition group by c.oid, c.relname order by 1`);

test('partitioned on connection_id by the documented statements, everything goes on as before', async () => {
  const bad = simulator.world.connections.values().next().value!;
  bad.injectRaw('message', '{"message_id": 7}');
  await start();
  await replicated();
  await stop();
  const before = await shape();
  const counts = () =>
    database.query(`select (select count(*) from whatsapp.messages) as messages,
      (select count(*) from whatsapp.sync_pages) as pages, (select count(*) from whatsapp.quarantine) as quarantined`);
  const counted = await counts();
  const viewed = () =>
    database.query(`select (select count(*) from whatsapp.message_feed where person_id is not null) as messages,
      (select sum(messages) from whatsapp.conversation_list) as listed,
      (select count(*) from whatsapp.people) as people, (select count(*) from whatsapp.identities) as identities,
      (select count(*) from whatsapp.conversation_memberships) as members,
      (select count(*) from whatsapp.message_reactions) as reactions`);
  const seen = await viewed();
  expect(
    Object.values(seen[0]!)
      .map(Number)
      .filter((n) => n > 0),
  ).toHaveLength(6);

  await database.query(STATEMENTS);
  expect(await shape()).toEqual(before);
  expect(await counts()).toEqual(counted);
  // The replica's views are on the new tables, and an index that comes later is built on them.
  expect(await viewed()).toEqual(seen);
  expect(
    await database.query(
      `select from pg_depend where refobjid = 'unpartitioned.messages'::regclass and deptype = 'n'`,
    ),
  ).toEqual([]);
  const names = [...LARGE_INDEXES, SEARCH_INDEX, PARTS_INDEX].map(({ name }) => name);
  expect(await tendIndexes(database.db, SCHEMA, { search: 'parts' })).toEqual({
    built: names,
    dropped: [],
    left: [],
  });
  // A message that is written after it waits in the index of its partition.
  const [one] = await database.query<{ connection_id: string }>(
    'select connection_id from whatsapp.sync_state limit 1',
  );
  await database.query(
    `insert into whatsapp.messages (connection_id, message_id, body) values ($1, 'm', 'needle')`,
    [one!.connection_id],
  );
  const [merged] = await database.query<{ n: string }>('select whatsapp.tend_search() as n');
  expect(Number(merged!.n)).toBeGreaterThan(0);
  const found = await searchMessages(database.db, SCHEMA, { query: 'needle', max: 2 });
  expect(found).toMatchObject([{ connection_id: one!.connection_id, message_id: 'm' }]);
  expect(await searchMessages(database.db, SCHEMA, { query: 'eedl', parts: true, max: 2 })).toEqual(found);
  await database.query(`delete from whatsapp.messages where message_id = 'm'`);
  const wanted = [SEARCH_INDEX.name, PARTS_INDEX.name];
  expect(await tendIndexes(database.db, SCHEMA, { search: 'off' })).toEqual({
    built: [],
    dropped: wanted,
    left: [],
  });
  // Whoever adds a table adds it to the document.
  const whole = await database.query<{ relname: string }>(
    `select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'connection_id'
      where c.relnamespace = 'whatsapp'::regnamespace and c.relkind = 'r' and not c.relispartition order by 1`,
  );
  expect(whole.map(({ relname }) => relname)).toEqual([
    ...[
      'change_positions',
      'connections',
      'erasure_returns',
      'erasures',
      'gaps',
      'suppressions',
      'sync_state',
    ],
    ...['upkeep', 'verifications'],
  ]);
  const filled = await database.query(
    "select distinct tableoid::regclass::text from whatsapp.messages where tableoid <> 'whatsapp.messages'::regclass",
  );
  expect(filled.length).toBeGreaterThan(1);

  // Pages, with revisions, members and quarantined records.
  await start();
  simulator.world.applyChanges(800);
  bad.injectRaw('message', '{"message_id": 8}');
  await replicated();
  expect((await database.query('select from whatsapp.message_revisions')).length).toBeGreaterThan(0);
  expect(await database.query('select from whatsapp.quarantine where resolved_at is null')).toHaveLength(2);

  // A resync reads everything again, and writes nothing.
  const synced = 'select count(*) from whatsapp.messages where synced_at > $1';
  const [{ now }] = (await database.query<{ now: Date }>('select now()')) as [{ now: Date }];
  for (const id of simulator.world.connections.keys()) {
    await database.db.transaction().execute(async (trx) => {
      await lockState(trx, id);
      await startEpoch(trx, id, 'resync', false);
    });
  }
  const behind = 'select from whatsapp.sync_state where epoch < 2 or cursor = 0 or has_more';
  await waitFor(async () => (await database.query(behind)).length === 0, { what: 'the resync' });
  await replicated();
  expect(await database.query(synced, [now])).toEqual([{ count: '0' }]);

  // A dead letter is tried again.
  const [letter] = await database.query<{ quarantine_id: string }>(
    'select quarantine_id from whatsapp.quarantine',
  );
  const retried = await retryDeadLetter(database.db, letter!.quarantine_id, contextOf(database.db));
  expect(retried).toMatchObject({ refused: expect.any(String) });
});

test('a page changes no rows of other connections, which are at the same places of their partitions', async () => {
  await database.query(STATEMENTS);
  const context = { media: true, history: { on: true, deletedMessages: 'redact' } } as const;
  const page = (n: number, cursor: number, fields: object = {}) => {
    const chat = { conversation_id: 'c', chat_jid: `4917010000${n}@s.whatsapp.net` };
    const message = {
      ...chat,
      message_id: 'm',
      content_type: 'image',
      sent_at: '2026-11-01T10:00:00Z',
      seq: cursor,
    };
    const answer = {
      cursor,
      contacts: [{ person_id: `p${cursor}`, phone_jid: chat.chat_jid }],
      conversations: [{ ...chat, kind: 'direct', seq: cursor }],
      messages: [
        { ...message, body: `${cursor}`, reactions: { 'a@s.whatsapp.net': 'x' }, ...fields },
        { ...message, message_id: `m${cursor}` },
      ],
    };
    return applyAnswer(database.db, answer, context, `conn_${n}`);
  };
  for (let n = 1; n <= 5; n++) for (const cursor of [1, 2]) await page(n, cursor);
  const others = () =>
    Promise.all(
      ['jids', 'conversation_counts', 'message_reactions', 'message_revisions', 'media'].map((table) =>
        database.query(`select * from whatsapp.${table} where connection_id <> 'conn_1' order by 1, 2, 3`),
      ),
    );
  const before = await others();
  expect(before.map(({ length }) => length)).toEqual([4, 4, 4, 4, 12]);
  await page(1, 3, { reactions: {}, deleted_at: '2026-11-01T11:00:00Z' });
  expect(await others()).toEqual(before);
});

test('an unnamed connection is renamed across partitions', async () => {
  const [id] = simulator.world.connections.keys();
  const key = simulator.world.keys.get(DEFAULT_API_KEY)!;
  key.connectionIds = [id!];
  key.meShape = 'none';
  await database.query(STATEMENTS);
  const worker = await start();
  const rows = (of: string) =>
    database
      .query('select from whatsapp.messages where connection_id = $1', [of])
      .then(({ length }) => length);
  await waitFor(async () => (await rows('default')) === 200, { what: 'the messages' });
  key.meShape = 'ids';
  await worker.look();
  expect(worker.told('connection_renamed')).toEqual([id]);
  expect([await rows('default'), await rows(id!)]).toEqual([0, 200]);
  key.connectionIds = null;
  await worker.look();
  simulator.world.applyChanges(200);
  await replicated();
});
