import { beforeEach, expect, test } from 'vitest';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';
import { Feed, message } from './feed-pages.ts';

/* What the feed tells, and that its numbers have no gaps. Each test has connections and consumers of its own. */

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.changes, whatsapp.change_consumers, whatsapp.change_positions, whatsapp.sync_state',
  );
});

const conversation = (seq: number, participants?: readonly string[]) => ({
  conversation_id: 'c1',
  subject: 's',
  seq,
  ...(participants && { participants: participants.map((jid) => ({ participant_jid: jid })) }),
});

test('each record that a page inserts, updates or deletes is told of once, with the columns that differ', async () => {
  const { page, told } = new Feed(database, 'told');
  await page({
    messages: [message(3), message(2, { message_id: 'z0' })],
    conversations: [conversation(1, ['a@lid'])],
    contacts: [{ person_id: 'p1', display_name: 'x' }],
  });
  const first = [
    '1 contact p1 inserted',
    '2 conversation c1 inserted',
    '3 membership c1 a@lid inserted',
    '4 message z0 inserted',
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
  await page({ messages: [message(5, { body: 'c', edited_at: '2026-11-01T10:00:01Z', novel: 7 })] });
  await page({ conversations: [conversation(2, ['a@lid', 'b@lid'])] });
  await page({ contacts: [{ person_id: 'p1', display_name: 'x', phone_e164: '+15555550100' }] });
  await page({ messages: [message(6, { body: null, deleted_at: '2026-11-02T10:00:00Z' })] });
  await page({ messages: [message(7, { body: null, deleted_at: '2026-11-02T10:00:01Z' })] });
  await page({ messages: [message(9, { message_id: 'gone', deleted_at: '2026-11-02T10:00:00Z' })] });
  expect((await told()).slice(5)).toEqual([
    '6 message m1 updated body,edited_at,extra',
    '7 message m1 updated status',
    '8 message m1 updated body,status',
    '9 conversation c1 updated participants',
    '10 membership c1 b@lid inserted',
    '11 contact p1 updated phone_e164',
    '12 message m1 deleted body,edited_at,deleted_at,extra',
    '13 message m1 updated deleted_at',
    '14 message gone inserted',
  ]);
});

test('reactions and memberships are told of one by one, beside their message and conversation', async () => {
  const { page, told } = new Feed(database, 'parts');
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
  // A record is before what belongs to it.
  expect(all[0]).toBe('1 message m1 inserted');
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
  const { page, told } = new Feed(database, 'smaller');
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
  const { page, told } = new Feed(database, 'partial');
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
  // Of what the tables do not know, too.
  await page({ messages: [{ message_id: 'm2', seq: 11, odd: 1 }] });
  await page({ messages: [message(10, { message_id: 'm2', odd: 2, more: 3 })] });
  expect((await told()).at(-1)).toMatch(/^\d+ message m2 updated conversation_id,body,sent_at,extra$/);
});

test('a page that is rolled back leaves no hole, and a resync tells nothing', async () => {
  const { page, told } = new Feed(database, 'again');
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
