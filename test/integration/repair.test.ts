/** What a repair writes of what was found, behind the lock, and what it leaves alone. */
import { beforeEach, expect, test } from 'vitest';
import { CONTACT, type Entity, MESSAGE } from '../../src/entities.ts';
import { type CompareTarget, readBefore } from '../../src/store/comparison.ts';
import { databaseTime } from '../../src/store/progress.ts';
import { lockState } from '../../src/store/state.ts';
import { BESIDE } from '../../src/store/transaction.ts';
import { parseList } from '../../src/upstream/lists.ts';
import { readListed } from '../../src/verify/listed.ts';
import { recount, repair } from '../../src/verify/repair.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
const message = (id: string, seq: number, more = {}) => ({
  message_id: id,
  conversation_id: 'c',
  seq,
  ...more,
});
let target: CompareTarget;

beforeEach(async () => {
  for (const table of ['messages', 'contacts', 'quarantine', 'sync_state', 'sync_pages', 'connections'])
    await database.query(`delete from whatsapp.${table}`);
  await applyAnswer(database.db, { cursor: 10, messages: [message('m', 5)] });
  const before = (await readBefore(database.db, CONNECTION, 0))!;
  const storedBefore = await databaseTime(database.db);
  target = { connectionId: CONNECTION, ...before, storedBefore, sentAfter: null };
});

/** Repairs these records, as if all of them had been found to be drift. */
async function mend(entity: Entity, records: unknown[]): Promise<number> {
  const list = parseList(Buffer.from(JSON.stringify({ items: records })), 'items');
  const context = {
    ...{ db: database.db, limits: BESIDE, forgetting: { key: undefined, retain: undefined } },
    ...{ history: { on: true, deletedMessages: 'keep' } as const, changes: true, media: false },
  };
  return await repair(context, entity, readListed(entity, list), target);
}
const rows = (sql: string) => database.query(`select ${sql}`);
const entries = `record_id, attempts, resolution, cursor_from, cursor_to from whatsapp.quarantine order by 1`;

test('what is missing is written, and counted as come past the ledger', async () => {
  expect(await mend(MESSAGE, [message('m', 5), message('lost', 6)])).toBe(2);
  expect(await rows('message_id as id from whatsapp.messages order by 1')).toEqual([
    { id: 'lost' },
    { id: 'm' },
  ]);
  const counted = 'stored_messages as stored, beside_messages as beside from whatsapp.sync_state';
  expect(await rows(counted)).toEqual([{ stored: '2', beside: '1' }]);
});

test('a record without a version has the cursor of before its list was asked for', async () => {
  await database.query('update whatsapp.sync_state set cursor = 20');
  expect(await mend(CONTACT, [{ person_id: 'p' }])).toBe(1);
  expect(await rows('version from whatsapp.contacts')).toEqual([{ version: '10' }]);
});

test.each(['update whatsapp.sync_state set numbering = numbering + 1', 'delete from whatsapp.sync_state'])(
  'nothing is written of a list that is of another numbering by now: %s',
  async (sql) => {
    await database.query(sql);
    expect(await mend(MESSAGE, [message('lost', 6), { message_id: 7 }])).toBe(0);
    expect(await rows('message_id as id from whatsapp.messages')).toEqual([{ id: 'm' }]);
    expect(await rows(entries)).toEqual([]);
  },
);

test('what cannot be stored is put aside once, and closed where a newer version of it is good', async () => {
  const bad = message('bad', 6, { body: 7 });
  const both = [message('both', 6, { body: 7 }), message('both', 7)];
  expect(await mend(MESSAGE, [bad, ...both])).toBe(3);
  // Otherwise, and as it was: of both the quarantine has heard.
  expect(await mend(MESSAGE, [bad, message('bad', 6, { body: 8 })])).toBe(2);
  const at = { attempts: 1, cursor_from: '10', cursor_to: '10' };
  expect(await rows(entries)).toEqual([
    { record_id: 'bad', resolution: null, ...at },
    { record_id: 'both', resolution: 'superseded', ...at },
  ]);
});

test('the counters are set right once an erasure gives the row free, for which whoever ends does not wait', async () => {
  const counted = 'stored_messages as stored from whatsapp.sync_state';
  await database.query('update whatsapp.sync_state set stored_messages = 7');
  let statements = 0;
  const maintenance = database.db.withPlugin({
    transformQuery({ node }) {
      statements++;
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  const context = { maintenance, notePatience: 100 };
  let waiting = Promise.resolve();
  await database.db.transaction().execute(async (erasure) => {
    await lockState(erasure, CONNECTION);
    const stop = new AbortController();
    const ended = recount(context, CONNECTION, stop.signal);
    stop.abort(new Error('ends'));
    await expect(ended).rejects.toThrow('ends');
    statements = 0;
    waiting = recount(context, CONNECTION, new AbortController().signal);
    // Of one attempt there are two until the lock is had.
    await waitFor(() => statements > 2, { what: 'another attempt' });
    expect(await rows(counted)).toEqual([{ stored: '7' }]);
  });
  await waiting;
  expect(await rows(counted)).toEqual([{ stored: '1' }]);
});
