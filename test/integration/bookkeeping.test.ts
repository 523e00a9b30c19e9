/** What a page leaves behind beside its records (R1): cursor, counts, ledger, times. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer, bodyOf, CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.messages, whatsapp.conversations, whatsapp.conversation_participants, whatsapp.contacts, whatsapp.sync_state, whatsapp.sync_pages',
  );
});

const message = (seq: number, fields: object = {}) => ({
  ...{ message_id: 'm1', conversation_id: 'c1', body: `version ${seq}`, seq },
  ...fields,
});
const apply = (answer: Answer) => applyAnswer(database.db, answer);
const state = async () => (await database.query('select * from whatsapp.sync_state'))[0]!;

test('the counts of stored rows and the ledger follow the page', async () => {
  const page = {
    cursor: 7,
    has_more: true,
    messages: [message(1), message(1, { message_id: 'm2' }), 'bad'],
    contacts: [{ person_id: 'p' }],
    conversations: [{ conversation_id: 'c' }],
  };
  const nextPollIn = () => {
    throw new Error('there is more, at once');
  };
  await applyAnswer(database.db, page, {}, CONNECTION, { nextPollIn });
  expect(await state()).toMatchObject({
    ...{ cursor: '7', epoch: 1, numbering: 1, caught_up_at: null, next_poll_at: null },
    ...{ stored_messages: '2', stored_contacts: '1', stored_conversations: '1' },
  });
  await apply({ cursor: 7, messages: [message(1)] });
  expect(await state()).toMatchObject({ stored_messages: '2', caught_up_at: expect.any(Date) });
  const ledger = await database.query('select * from whatsapp.sync_pages where connection_id = $1', [
    CONNECTION,
  ]);
  expect(ledger).toMatchObject([
    {
      ...{ cursor_from: '0', cursor_to: '7', has_more: true, worker: 'test' },
      ...{ messages: 3, contacts: 1, conversations: 1, quarantined: 1 },
      body_sha256: createHash('sha256').update(bodyOf(page)).digest('hex'),
    },
  ]);
});

test('it is caught up since the request began, and changed by what is written or put aside', async () => {
  const since = Date.now();
  const told: boolean[] = [];
  const changedAt: Date[] = [];
  for (const one of [message(1), message(1), 'bad', message(2), message(2, { body: 'amended' })]) {
    const page = { cursor: told.length + 1, has_more: false, messages: [one] };
    const nextPollIn = (changed: boolean) => told.push(changed);
    const requestedAt = performance.now() - 60_000;
    await applyAnswer(database.db, page, {}, CONNECTION, { requestedAt, nextPollIn });
    const { caught_up_at, last_changed_at } = await state();
    expect((caught_up_at as Date).getTime()).toBeLessThan(since - 50_000);
    changedAt.push(last_changed_at as Date);
  }
  expect(told).toEqual([true, false, true, true, true]);
  expect(changedAt[1]).toEqual(changedAt[0]);
  expect(changedAt[2]! > changedAt[1]!).toBe(true);
  expect(changedAt[3]! > changedAt[2]!).toBe(true);
});

test('a replay writes no row', async () => {
  const page = {
    cursor: 5,
    messages: [message(1), message(2, { message_id: 'm2', media: { a: 1 }, reactions: { x: ['y'] } })],
    contacts: [{ person_id: 'p', display_name: 'P' }],
    conversations: [
      { conversation_id: 'c', seq: 3, participants: [{ participant_jid: 'a', role: 'admin' }] },
    ],
  };
  await apply(page);
  const snapshot = () =>
    database.query(`select
      (select json_agg((m.xmin, m.ctid)) from whatsapp.messages m) as messages,
      (select json_agg((c.xmin, c.ctid)) from whatsapp.contacts c) as contacts,
      (select json_agg((p.xmin, p.ctid)) from whatsapp.conversation_participants p) as participants,
      (select json_agg((v.xmin, v.ctid)) from whatsapp.conversations v) as conversations`);
  const before = await snapshot();
  await database.query('update whatsapp.sync_state set cursor = 0');
  const { tally } = await apply(page);
  expect(tally.message.unchanged + tally.contact.unchanged + tally.conversation.unchanged).toBe(4);
  expect(await snapshot()).toEqual(before);
});
