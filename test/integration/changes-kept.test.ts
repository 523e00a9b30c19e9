/** What is kept of the change feed, what is missing from it, and that it is told. */
import { beforeEach, expect, test, vi } from 'vitest';
import { prunableConnections, pruneChanges } from '../../src/store/changes.ts';
import { changesAfter, readFeed } from '../../src/store/feed.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';
import { Feed, message } from './feed-pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.changes, whatsapp.change_consumers, whatsapp.change_positions, whatsapp.sync_state',
  );
});

const DAY = 86_400_000;
const OFF = { changes: false };

const read = (consumer: string, max = 500) =>
  database.query<{ connection_id: string; change_no: string }>(
    'select * from whatsapp.read_changes($1, $2)',
    [consumer, max],
  );
const ack = (consumer: string, connection: string, no: number | string) =>
  database.query('select whatsapp.ack_changes($1, $2, $3::bigint)', [consumer, connection, no]);

test('CHANGES=off writes nothing; who read before is told that changes are missing', async () => {
  const fresh = new Feed(database, 'fresh');
  await fresh.page({ messages: [message(1)] }, OFF);
  await fresh.page({ messages: [message(2, { body: 'b' })] });
  expect(await fresh.told()).toEqual(['1 message m1 updated body']);

  const { page, told } = new Feed(database, 'off');
  await page({ messages: [message(1)] });
  expect((await read('off')).filter((row) => row.connection_id === 'off')).toHaveLength(1);
  await ack('off', 'off', 1);
  await page({ messages: [message(2, { body: 'b' })] }, OFF);
  await page({ messages: [message(2, { body: 'b' })] }, OFF);
  await ack('off', 'fresh', 1);
  await expect(read('off')).rejects.toMatchObject({ code: 'WR001', hint: expect.stringContaining("'off'") });
  await page({ messages: [message(3)] });
  expect(await told()).toEqual(['1 message m1 inserted', '3 message m1 updated body']);
  await expect(read('off')).rejects.toMatchObject({ code: 'WR001' });
  await database.query(`select whatsapp.restart_consumer('off', 'off', 'now')`);
  await page({ messages: [message(4, { body: 'd' })] });
  expect((await read('off')).map((row) => row.change_no)).toEqual(['4']);
  // Whoever registers later is told of the hole, too, and not led over it.
  expect(await read('later')).toHaveLength(2);
  await database.query(`select whatsapp.ack_changes('later', '{"off": 1, "fresh": 1}')`);
  await expect(read('later')).rejects.toMatchObject({ code: 'WR001' });
  // One that was registered before there was anything is.
  const unread = new Feed(database, 'unread');
  await unread.page({ messages: [message(1)] }, OFF);
  await unread.page({ messages: [message(2, { body: 'b' })] });
  expect(await unread.told()).toEqual(['2 message m1 updated body']);
});

test('nor is whoever comes new led over what nobody was there to be told of', async () => {
  const { page } = new Feed(database, 'hole');
  await page({ messages: [message(1)] });
  await page({ messages: [message(2, { body: 'b' })] }, OFF);
  await page({ messages: [message(3, { body: 'c' })] });
  expect((await read('new')).map((row) => row.change_no)).toEqual(['1']);
  await ack('new', 'hole', 1);
  await expect(read('new')).rejects.toMatchObject({ code: 'WR001' });
});

test('nothing is pruned that a consumer has not had, though it never read the connection', async () => {
  await database.query(`select whatsapp.register_consumer('quick'), whatsapp.register_consumer('idle')`);
  await new Feed(database, 'came later').page({ messages: [message(1)] });
  const prune = async () => {
    const prunable = await prunableConnections(database.db, DAY);
    const pruned = await pruneChanges(database.db, 'came later', DAY, 5);
    expect(prunable).toEqual(pruned > 0 ? ['came later'] : []);
    return pruned;
  };
  expect(await read('quick')).toHaveLength(1);
  await ack('quick', 'came later', 1);
  expect(await prune()).toBe(0);
  expect(await read('idle')).toHaveLength(1);
  await ack('idle', 'came later', 1);
  expect(await prune()).toBe(1);
  const { consumers } = await readFeed(database.db);
  expect(consumers.map(({ pending, lag, late }) => [pending, lag, late])).toEqual(Array(2).fill([0, 0, 0]));
});

test('a change is too old by both clocks or not at all: the database’s may be put forward', async () => {
  await new Feed(database, 'told ahead').page({ messages: [message(1)] });
  await database.query(
    `update whatsapp.changes set at = at - interval '40 days' where connection_id = 'told ahead'`,
  );
  const prune = () => pruneChanges(database.db, 'told ahead', 30 * DAY, 5);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 20 * DAY });
  try {
    expect(await prunableConnections(database.db, 30 * DAY)).not.toContain('told ahead');
    expect(await prune()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
  expect(await prune()).toBe(1);
});

test('what came after positions is read from the first on, some of each connection at a time', async () => {
  for (const connection of ['one', 'two']) {
    const { page } = new Feed(database, connection);
    for (let seq = 1; seq <= 4; seq++) await page({ messages: [message(seq, { body: String(seq) })] });
  }
  const after = async (positions: [string, string][]) =>
    (await changesAfter(database.db, new Map(positions), 2)).map(
      (change) => `${change.connection_id} ${change.change_no}`,
    );
  expect(await after([])).toEqual(['one 1', 'one 2', 'two 1', 'two 2']);
  expect(await after([['one', '3']])).toEqual(['one 4', 'two 1', 'two 2']);
});

test('rows are pruned once every consumer has them, or after the retention; who comes then is told', async () => {
  const { page, told } = new Feed(database, 'pruned');
  for (let seq = 1; seq <= 9; seq++) await page({ messages: [message(seq, { body: String(seq) })] });
  const prune = async (retention = DAY) => {
    if (!(await prunableConnections(database.db, retention)).includes('pruned')) return 0;
    return await pruneChanges(database.db, 'pruned', retention, 5);
  };
  // Nobody is registered: by time alone.
  expect(await prune()).toBe(0);
  await database.query(`update whatsapp.changes set at = at - interval '2 days'
    where connection_id = 'pruned' and change_no <= 2`);
  expect(await prune()).toBe(2);

  await database.query(`select whatsapp.register_consumer('fast'), whatsapp.register_consumer('slow')`);
  const mine = async (consumer: string) =>
    (await read(consumer))
      .filter((row) => row.connection_id === 'pruned')
      .map((row) => Number(row.change_no));
  expect(await mine('fast')).toEqual([3, 4, 5, 6, 7, 8, 9]);
  await ack('fast', 'pruned', 8);
  expect(await prune()).toBe(0);
  expect(await mine('slow')).toHaveLength(7);
  await ack('slow', 'pruned', 4);
  expect(await prune()).toBe(2);
  expect(await prune()).toBe(0);
  expect((await told())[0]).toMatch(/^5 /);
  expect((await readFeed(database.db)).kept).toBe(5);
  const behind = async () =>
    (await readFeed(database.db)).consumers.map(
      ({ consumer, pending, late }) => `${consumer} ${pending} ${late}`,
    );
  expect((await behind()).sort()).toEqual(['fast 1 0', 'slow 5 0']);
  // The retention passes: in batches, from the first on.
  expect([await prune(0), await prune(0)]).toEqual([5, 0]);
  expect((await behind()).sort()).toEqual(['fast 1 1', 'slow 5 1']);
  await page({ messages: [message(10, { body: '10' })] });
  expect(await told()).toEqual(['10 message m1 updated body']);
  // Both come too late, and are told so at their next read.
  expect((await behind()).sort()).toEqual(['fast 2 1', 'slow 6 1']);
  await database.query(`update whatsapp.change_positions set leased_until = null`);
  await expect(read('slow')).rejects.toMatchObject({
    code: 'WR001',
    message: expect.stringContaining('comes too late'),
  });
  await database.query(`select whatsapp.restart_consumer('slow', starting => 'start')`);
  expect((await behind()).sort()).toEqual(['fast 2 1', 'slow 1 0']);
  expect(await mine('slow')).toEqual([10]);
  await database.query(`select whatsapp.drop_consumer('slow')`);
  // Of the other one, which has 8 of 9, the last is missing.
  await expect(read('fast')).rejects.toMatchObject({ code: 'WR001' });
});

test('a state row that was deleted begins anew, its numbers do not', async () => {
  const { page, told } = new Feed(database, 'deleted');
  await page({ messages: [message(1)] });
  await database.query(`delete from whatsapp.sync_state where connection_id = 'deleted'`);
  await applyAnswer(database.db, { cursor: 1, messages: [message(2, { body: 'b' })] }, {}, 'deleted');
  expect(await told()).toEqual(['1 message m1 inserted', '2 message m1 updated body']);
});
