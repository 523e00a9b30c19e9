/** What a page leaves behind beside its records (R1): cursor, counts, ledger, times. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { readPosition } from '../../src/store/state.ts';
import { type ApplyPlan, apply as applyPage } from '../../src/sync/apply.ts';
import { pack } from '../../src/sync/packing.ts';
import { parsePage } from '../../src/upstream/page.ts';
import { useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer, bodyOf, CONNECTION, contextOf } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.messages, whatsapp.conversations, whatsapp.conversation_participants, whatsapp.contacts, whatsapp.sync_state, whatsapp.sync_pages, whatsapp.gaps',
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

/** Applies an answer; returns how many statements it took, beside those that begin and end a transaction. */
async function statementsOf(answer: Answer, plan: Partial<ApplyPlan> = {}): Promise<number> {
  let count = 0;
  const counting = database.db.withPlugin({
    transformQuery: ({ node }) => {
      count++;
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  const at = (await readPosition(database.db, CONNECTION))!;
  const page = parsePage(bodyOf(answer), at.cursor);
  const timing = { requestedAt: performance.now(), nextPollIn: () => 60_000, ...plan };
  const { changes } = pack(page);
  expect(await applyPage(contextOf(counting), CONNECTION, at, page, changes, timing)).toMatchObject({
    done: true,
  });
  return count;
}

test('a poll that brought nothing is noted in one statement', async () => {
  await apply({ cursor: 5, has_more: false });
  await database.query(`update whatsapp.sync_state set consecutive_failures = 3, last_error_kind = 'network',
    last_error = 'gone', has_more = true, lease_expires_at = null, last_changed_at = '2026-01-01'`);
  const since = Date.now();
  expect(await statementsOf({ cursor: 5 }, { requestedAt: performance.now() - 60_000 })).toBe(1);
  const noted = await state();
  expect(noted).toMatchObject({
    ...{ consecutive_failures: 0, last_error_kind: null, last_error: null, has_more: false, cursor: '5' },
    ...{ last_polled_at: expect.any(Date), lease_expires_at: expect.any(Date) },
    ...{ next_poll_at: expect.any(Date), last_changed_at: new Date('2026-01-01') },
  });
  expect((noted.caught_up_at as Date).getTime()).toBeLessThan(since - 50_000);
  expect(await database.query('select from whatsapp.sync_pages')).toHaveLength(1);
});

test('a poll that brought nothing and ends a gap takes the transaction that records it, and counts once', async () => {
  await apply({ cursor: 5, has_more: false });
  await database.query(`update whatsapp.sync_state set caught_up_at = now() - interval '31 days'`);
  let counted = 0;
  const statements = await statementsOf({ cursor: 5 }, { nextPollIn: () => ++counted });
  expect([statements > 1, counted]).toEqual([true, 1]);
  expect(await database.query('select found_by from whatsapp.gaps')).toEqual([{ found_by: 'catch_up' }]);
});
