/** Two connections whose records have the same ids: what is done to one leaves every row of the other as it was. */
import { beforeEach, expect, test } from 'vitest';
import { pruneChanges } from '../../src/store/changes.ts';
import { foldLedger, setCounters } from '../../src/store/ledger.ts';
import { refetchLost, removeMedia } from '../../src/store/media-files.ts';
import { redactMedia } from '../../src/store/media-queue.ts';
import { pruneLetters, pruneMessages } from '../../src/store/retention.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { forgetVerifications } from '../../src/store/verifications.ts';
import { discard } from '../../src/sync/discard.ts';
import { erase } from '../../src/sync/erase.ts';
import { SCHEMA } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';
import { BOB, database, db, EVE, FORGETTING, GROUP, KEY, ME, useDatabase } from './erasure-world.ts';

const ONE = 'conn_one';
const TWO = 'conn_two';
const DAY = 86_400_000;

useDatabase();

const redact = { history: { on: true, deletedMessages: 'redact' as const }, media: true };
const page = (connection: string, answer: Answer) => applyAnswer(db, answer, redact, connection);
const message = (id: string, seq: number, more: object = {}) => ({
  ...{ message_id: id, conversation_id: 'cnv_group', chat_jid: GROUP, sender_jid: EVE.phone, seq },
  ...{ direction: 'incoming', content_type: 'image', media: { a: 1 }, body: `${id} at first` },
  ...{ sent_at: '2026-10-01T12:00:00Z', reactions: { [BOB.phone]: '👍', [EVE.phone]: '👍' }, ...more },
});
const group = (members: readonly unknown[], seq: number) => ({
  ...{ conversation_id: 'cnv_group', chat_jid: GROUP, kind: 'group', seq, participants: members },
});
const eve = { participant_jid: EVE.phone, person_id: EVE.id };
const bob = { participant_jid: BOB.phone, person_id: BOB.id };

/** What both have at first: one after the other, with the same ids. */
async function begin(connection: string) {
  const direct = {
    conversation_id: 'cnv_eve',
    chat_jid: EVE.phone,
    kind: 'direct',
    direct_person_id: EVE.id,
  };
  const { tally } = await page(connection, {
    cursor: 10,
    contacts: [
      { person_id: EVE.id, phone_jid: EVE.phone, lid_jid: EVE.lid },
      { person_id: BOB.id, phone_jid: BOB.phone, phone_e164: 'none' },
      { person_id: 'per_bad', phone_jid: 7 },
    ],
    conversations: [group([eve, bob, { participant_jid: 7 }], 1), { ...direct, seq: 2 }],
    messages: [
      message('m1', 3),
      message('m2', 4),
      message('m3', 5, { conversation_id: 'cnv_eve', chat_jid: EVE.phone, sender_jid: ME, is_from_me: true }),
      message('m_bad', 6, { body: 7 }),
    ],
  });
  await page(connection, { cursor: 20, messages: [message('m1', 11, { body: 'another text' })] });
  return tally;
}

/** Every row of a connection, by table. */
async function rowsOf(connection: string): Promise<Record<string, unknown[]>> {
  const tables = await database.query<{
    name: string;
  }>(`select table_name as name from information_schema.columns
    join information_schema.tables using (table_schema, table_name)
    where table_schema = 'whatsapp' and column_name = 'connection_id' and table_type = 'BASE TABLE'`);
  const all: Record<string, unknown[]> = {};
  for (const { name } of tables) {
    const rows = `select to_jsonb(t) as row from whatsapp.${name} t where connection_id = $1 order by 1`;
    all[name] = (await database.query<{ row: unknown }>(rows, [connection])).map(({ row }) => row);
  }
  return all;
}

beforeEach(async () => {
  const one = await begin(ONE);
  // What the other has already is not taken for its own.
  expect(await begin(TWO)).toEqual(one);
  expect(one.message).toMatchObject({ inserted: 3 });
  await database.query(`
    update whatsapp.media set state = 'stored', location = 'file:///there';
    update whatsapp.sync_pages set applied_at = date_trunc('day', now(), 'UTC') - interval '5 days';
    insert into whatsapp.verifications (connection_id, state, updated_at)
      select connection_id, 'interrupted', now() - interval '5 days' from whatsapp.sync_state`);
});

test('what another has already is neither taken for its own nor changed', async () => {
  const one = await rowsOf(ONE);
  await begin('conn_three');
  expect(await rowsOf(ONE)).toEqual(one);
  const counted = (rows: Record<string, unknown[]>) =>
    Object.entries({ ...rows, verifications: [] }).map(([table, { length }]) => [table, length]);
  expect(counted(await rowsOf('conn_three'))).toEqual(counted(one));
});

const after = { cursor: 30, has_more: false };

test.each<[what: string, () => Promise<unknown>]>([
  [
    'an edit',
    () => page(ONE, { ...after, messages: [message('m1', 21, { body: 'edited', media: { a: 2 } })] }),
  ],
  [
    'a deletion',
    () => page(ONE, { ...after, messages: [message('m1', 21, { deleted_at: '2026-10-02T12:00:00Z' })] }),
  ],
  ['no reaction any more', () => page(ONE, { ...after, messages: [message('m1', 21, { reactions: {} })] })],
  [
    'another reaction',
    () => page(ONE, { ...after, messages: [message('m1', 21, { reactions: { [BOB.phone]: '🎉' } })] }),
  ],
  ['members who left', () => page(ONE, { ...after, conversations: [group([bob], 21)] })],
  [
    'a member who is somebody else',
    () => page(ONE, { ...after, conversations: [group([eve, { ...bob, person_id: 'x' }], 21)] }),
  ],
  [
    'a contact with another number',
    () =>
      page(ONE, {
        ...after,
        contacts: [{ person_id: EVE.id, phone_jid: '4915100000003@s.whatsapp.net', lid_jid: EVE.lid }],
      }),
  ],
  [
    'a record that is good now',
    () => page(ONE, { ...after, messages: [message('m_bad', 21)], contacts: [{ person_id: 'per_bad' }] }),
  ],
  ['a discarded quarantine', () => discard(db, { connection: ONE })],
  ['old messages that go', () => pruneMessages(db, ONE, DAY, 100)],
  ['old entries of the quarantine that go', () => pruneLetters(db, ONE, 0)],
  ['a ledger that is folded', () => foldLedger(db, ONE, DAY)],
  [
    'counters that are set',
    async () => {
      await database.query(
        `delete from whatsapp.messages where connection_id = '${ONE}' and message_id = 'm3'`,
      );
      await setCounters(db, ONE);
    },
  ],
  ['changes that are pruned', () => pruneChanges(db, ONE, 0, 1_000)],
  ['verifications that are forgotten', () => forgetVerifications(db, ONE, 1)],
  ['an attachment that is removed', () => removeMedia(db, ONE, ['m1'])],
  [
    'an attachment that is lost',
    () => refetchLost(db, [{ connection_id: ONE, message_id: 'm1', location: 'file:///there' }]),
  ],
  [
    'an attachment whose message was deleted',
    async () => {
      await database.query(`update whatsapp.messages set deleted_at = now() where connection_id = '${ONE}'`);
      expect([await redactMedia(db, TWO), await redactMedia(db, ONE)]).toEqual([0, 3]);
    },
  ],
  [
    'a start from 0',
    () =>
      db.transaction().execute(async (trx) => {
        await lockState(trx, ONE);
        await startEpoch(trx, ONE, 'reset', true);
      }),
  ],
  [
    'an erasure',
    async () => {
      const order = { key: KEY, changes: true, schema: SCHEMA, forever: true, connectionId: ONE };
      expect((await erase(db, { ...order, who: { jid: EVE.phone } })).counts).toMatchObject({ contacts: 1 });
      await applyAnswer(db, { cursor: 30, messages: [message('m4', 21)] }, { forgetting: FORGETTING }, ONE);
    },
  ],
])('%s', async (_, work) => {
  const [one, two] = [await rowsOf(ONE), await rowsOf(TWO)];
  await work();
  expect(await rowsOf(TWO)).toEqual(two);
  expect(await rowsOf(ONE)).not.toEqual(one);
});
