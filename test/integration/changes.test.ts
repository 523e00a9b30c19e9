import { beforeEach, expect, test } from 'vitest';
import { prunableConnections, pruneChanges } from '../../src/store/changes.ts';
import { readFeed } from '../../src/store/feed.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';

/* What the feed tells, and that its numbers have no gaps. Each test has connections and consumers of its own. */

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.changes, whatsapp.change_consumers, whatsapp.change_positions, whatsapp.sync_state',
  );
});

const DAY = 86_400_000;
const OFF = { changes: false };
const message = (seq: number, fields: Record<string, unknown> = {}) => ({
  message_id: 'm1',
  conversation_id: 'c1',
  sent_at: '2026-11-01T10:00:00Z',
  body: 'a',
  seq,
  ...fields,
});
const conversation = (seq: number, participants?: readonly string[]) => ({
  conversation_id: 'c1',
  subject: 's',
  seq,
  ...(participants && { participants: participants.map((jid) => ({ participant_jid: jid })) }),
});

/** Applies answers one after the other. */
function feedOf(connection: string) {
  let cursor = 0;
  const page = async (answer: Omit<Answer, 'cursor'>, context = {}) =>
    await applyAnswer(database.db, { cursor: ++cursor, ...answer }, context, connection);
  const told = async () => {
    const rows = await database.query<Record<string, unknown>>(
      `select change_no, kind, record_id, op, changed_fields from whatsapp.changes where connection_id = $1 order by 1`,
      [connection],
    );
    return rows.map((row) => {
      const fields = row.changed_fields as string[] | null;
      return `${row.change_no} ${row.kind} ${row.record_id} ${row.op}${fields ? ` ${fields.join()}` : ''}`;
    });
  };
  return { page, told };
}

const read = (consumer: string, max = 500) =>
  database.query<{ connection_id: string; change_no: string }>(
    'select * from whatsapp.read_changes($1, $2)',
    [consumer, max],
  );
const ack = (consumer: string, connection: string, no: number | string) =>
  database.query('select whatsapp.ack_changes($1, $2, $3::bigint)', [consumer, connection, no]);

test('each record that a page inserts, updates or deletes is told of once, with the columns that differ', async () => {
  const { page, told } = feedOf('told');
  await page({
    messages: [message(3), message(2, { message_id: 'm0' })],
    conversations: [conversation(1, ['a@lid'])],
    contacts: [{ person_id: 'p1', display_name: 'x' }],
  });
  const first = [
    '1 contact p1 inserted',
    '2 conversation c1 inserted',
    '3 membership c1 a@lid inserted',
    '4 message m0 inserted',
    '5 message m1 inserted',
  ];
  expect(await told()).toEqual(first);
  // The same once more; the same at a higher seq; an older one.
  await page({ messages: [message(3)], contacts: [{ person_id: 'p1', display_name: 'x' }] });
  await page({ messages: [message(4)] });
  await page({ messages: [message(1, { body: 'old' })], conversations: [conversation(0, ['z@lid'])] });
  expect(await told()).toEqual(first);

  await page({ messages: [message(5, { body: 'b', edited_at: '2026-11-01T10:00:01Z', novel: 7 })] });
  // Amended: other content at an equal seq.
  await page({
    messages: [message(5, { body: 'b', status: 'read', edited_at: '2026-11-01T10:00:01Z', novel: 7 })],
  });
  await page({ conversations: [conversation(2, ['a@lid', 'b@lid'])] });
  await page({ contacts: [{ person_id: 'p1', display_name: 'x', phone_e164: '+15555550100' }] });
  await page({ messages: [message(6, { body: null, deleted_at: '2026-11-02T10:00:00Z' })] });
  await page({ messages: [message(7, { body: null, deleted_at: '2026-11-02T10:00:01Z' })] });
  await page({ messages: [message(9, { message_id: 'gone', deleted_at: '2026-11-02T10:00:00Z' })] });
  expect((await told()).slice(5)).toEqual([
    '6 message m1 updated body,edited_at,extra',
    '7 message m1 updated status',
    '8 conversation c1 updated participants',
    '9 membership c1 b@lid inserted',
    '10 contact p1 updated phone_e164',
    '11 message m1 deleted body,status,edited_at,deleted_at,extra',
    '12 message m1 updated deleted_at',
    '13 message gone inserted',
  ]);
});

test('reactions and memberships are told of one by one, beside their message and conversation', async () => {
  const { page, told } = feedOf('parts');
  const reacted = (seq: number, reactions: object) => message(seq, { reactions });
  await page({ messages: [reacted(1, { 'a@lid': '👍', 'b@lid': { emoji: '🙏' } })] });
  await page({ messages: [reacted(2, { 'a@lid': '🎉', 'c@lid': '👍' })] });
  const members = (seq: number, participants: object[]) => ({ ...conversation(seq), participants });
  await page({ conversations: [members(3, [{ participant_jid: 'a@lid' }, { participant_jid: 'b@lid' }])] });
  await page({ conversations: [members(4, [{ participant_jid: 'a@lid', role: 'admin' }])] });
  // A replay, and an answer that says nothing of them.
  await page({ messages: [reacted(2, { 'a@lid': '🎉', 'c@lid': '👍' })], conversations: [conversation(4)] });
  const all = await told();
  expect(all).toHaveLength(13);
  expect(all.map((line) => line.replace(/^\d+ /, '')).sort()).toEqual(
    [
      'message m1 inserted',
      'reaction m1 a@lid inserted',
      'reaction m1 b@lid inserted',
      'message m1 updated reactions',
      'reaction m1 a@lid updated emoji',
      'reaction m1 b@lid deleted',
      'reaction m1 c@lid inserted',
      'conversation c1 inserted',
      'membership c1 a@lid inserted',
      'membership c1 b@lid inserted',
      'conversation c1 updated participants',
      'membership c1 a@lid updated role',
      'membership c1 b@lid deleted',
    ].sort(),
  );
});

test('a membership that only grew smaller is told of, at an equal seq and at a newer one', async () => {
  const { page, told } = feedOf('smaller');
  await page({ conversations: [conversation(1, ['a@lid', 'b@lid', 'c@lid'])] });
  const before = (await told()).length;
  await page({ conversations: [conversation(1, ['a@lid', 'b@lid'])] });
  await page({ conversations: [conversation(2, ['a@lid'])] });
  expect((await told()).slice(before).map((line) => line.replace(/^\d+ /, ''))).toEqual([
    'conversation c1 updated participants',
    'membership c1 c@lid deleted',
    'conversation c1 updated participants',
    'membership c1 b@lid deleted',
  ]);
});

test('partial messages are told of as what they add; a whole one that comes late, as what was lacking', async () => {
  const { page, told } = feedOf('partial');
  const partial = (seq: number, fields: object) => ({ message_id: 'm1', seq, ...fields });
  await page({ messages: [partial(5, { status: 'read' })] });
  await page({ messages: [partial(6, { status: 'read' })] });
  await page({ messages: [partial(7, { status: 'played', odd: 1 })] });
  await page({ messages: [message(2, { status: 'sent', odd: 2 })] });
  // Both versions of one page.
  await page({ messages: [message(8, { status: 'read' }), message(9, { status: 'played' })] });
  expect(await told()).toEqual([
    '1 message m1 inserted',
    '2 message m1 updated status,extra',
    '3 message m1 updated conversation_id,body,sent_at',
    expect.stringMatching(/^4 message m1 updated .*extra/),
    ...(await told()).slice(4),
  ]);
});

test('a page that is rolled back leaves no hole, and a resync tells nothing', async () => {
  const { page, told } = feedOf('again');
  const answer = {
    messages: [message(1), message(2, { message_id: 'm2' })],
    conversations: [conversation(1, ['a@lid'])],
  };
  await page(answer);
  const crash = (point: string) => {
    if (point === 'before_commit') throw new Error('crash');
  };
  await expect(page({ messages: [message(3, { body: 'b' })] }, { reached: crash })).rejects.toThrow('crash');
  // Found by halving: each try behind a savepoint.
  await page({
    messages: [message(4, { body: 'c' }), message(4, { message_id: 'm3', media: { n: 10n ** 140_000n } })],
  });
  const before = await told();
  expect(before.at(-1)).toMatch(/^[45] message/);
  expect(before.map((line) => line.split(' ')[0])).toEqual(before.map((_, at) => String(at + 1)));
  await database.db.transaction().execute(async (trx) => {
    await lockState(trx, 'again');
    await startEpoch(trx, 'again', 'resync', false);
  });
  await applyAnswer(
    database.db,
    { cursor: 1, ...answer, messages: [message(4, { body: 'c' }), answer.messages[1]] },
    {},
    'again',
  );
  // Numbered anew, every row is written, and nothing of it is news.
  await database.query(
    `update whatsapp.sync_state set numbering = numbering + 1 where connection_id = 'again'`,
  );
  const anew = await applyAnswer(
    database.db,
    { cursor: 2, messages: [message(1, { body: 'c' })] },
    {},
    'again',
  );
  expect(anew.tally.message.updated).toBe(1);
  expect(await told()).toEqual(before);
});

test('CHANGES=off writes nothing; who read before is told that changes are missing', async () => {
  const fresh = feedOf('fresh');
  await fresh.page({ messages: [message(1)] }, OFF);
  await fresh.page({ messages: [message(2, { body: 'b' })] });
  expect(await fresh.told()).toEqual(['1 message m1 updated body']);

  const { page, told } = feedOf('off');
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
});

test('rows are pruned once every consumer has them, or after the retention; who comes then is told', async () => {
  const { page, told } = feedOf('pruned');
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
  const behind = async () =>
    (await readFeed(database.db)).consumers.map(
      ({ consumer, pending, late }) => `${consumer} ${pending} ${late}`,
    );
  expect((await behind()).sort()).toEqual(['fast 1 0', 'slow 5 0']);
  // The retention passes: in batches, from the first on.
  expect([await prune(0), await prune(0)]).toEqual([5, 0]);
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
  const { page, told } = feedOf('deleted');
  await page({ messages: [message(1)] });
  await database.query(`delete from whatsapp.sync_state where connection_id = 'deleted'`);
  await applyAnswer(database.db, { cursor: 1, messages: [message(2, { body: 'b' })] }, {}, 'deleted');
  expect(await told()).toEqual(['1 message m1 inserted', '2 message m1 updated body']);
});
