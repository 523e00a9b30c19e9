/** The ledger's own proof: tampering is found without the upstream, and a folded ledger still proves that nothing is missing. */
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { checkLedger, foldLedger, setCounters } from '../../src/store/ledger.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { retryDeadLetter } from '../../src/sync/retry.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION, contextOf } from '../support/pages.ts';

const DAY = 86_400_000;
const database = useTestDatabase({ migrated: true });
const TABLES = ['sync_state', 'sync_pages', 'messages', 'contacts'];
beforeAll(async () => {
  // Two epochs over several days: 5 pages a day, the oldest 6 days ago.
  for (let epoch = 1; epoch <= 2; epoch++) {
    for (let page = 1; page <= 15; page++) {
      const messages = [{ message_id: `m${page}`, conversation_id: 'c', seq: page }];
      await applyAnswer(database.db, { cursor: page, messages, contacts: [{ person_id: 'p' }] });
      const ago = 6 - (epoch - 1) * 3 - Math.floor((page - 1) / 5);
      await database.query(`update whatsapp.sync_pages
        set applied_at = date_trunc('day', now(), 'UTC') - interval '${ago} days' + interval '${page} minutes'
        where page_id = (select max(page_id) from whatsapp.sync_pages)`);
    }
    if (epoch === 1) {
      await database.db.transaction().execute(async (trx) => {
        await lockState(trx, CONNECTION);
        await startEpoch(trx, CONNECTION, 'resync', false);
      });
    }
  }
  await database.query('create schema saved');
  for (const table of TABLES) await database.query(`create table saved.${table} as table whatsapp.${table}`);
});
beforeEach(async () => {
  for (const table of TABLES) {
    await database.query(`with emptied as (delete from whatsapp.${table}) select`);
    await database.query(`insert into whatsapp.${table} overriding system value table saved.${table}`);
  }
  expect(await checkLedger(database.db, CONNECTION)).toEqual([]);
});

const codes = async () => (await checkLedger(database.db, CONNECTION)).map(({ code }) => code);
const ledger = () =>
  database.query<Record<string, unknown>>(`select epoch, cursor_from, cursor_to, pages, messages, contacts,
    body_sha256 is null as folded from whatsapp.sync_pages order by page_id`);
const nth = (n: number) =>
  `page_id = (select page_id from whatsapp.sync_pages order by page_id offset ${n} limit 1)`;

test.each([
  ['a page that is gone', `delete from whatsapp.sync_pages where ${nth(7)}`, ['gap_in_ledger']],
  ['the first page gone', `delete from whatsapp.sync_pages where ${nth(15)}`, ['first_page_not_at_zero']],
  [
    'a page moved',
    `update whatsapp.sync_pages set cursor_to = 2 where ${nth(4)}`,
    ['gap_in_ledger', 'page_goes_back'],
  ],
  ['the last page gone', `delete from whatsapp.sync_pages where ${nth(29)}`, ['cursor_beyond_ledger']],
  ['a cursor put forward', `update whatsapp.sync_state set cursor = 99`, ['cursor_beyond_ledger']],
  ['a cursor put back', `update whatsapp.sync_state set cursor = 3`, ['cursor_behind_ledger']],
  ['an epoch put back', `update whatsapp.sync_state set epoch = 1`, ['epoch_beyond_state']],
  ['a message gone', `delete from whatsapp.messages where message_id = 'm3'`, ['counter_differs']],
  [
    'rows that never came',
    `insert into whatsapp.contacts (connection_id, person_id) select '${CONNECTION}', 'x' || i from generate_series(1, 40) i`,
    ['counter_differs', 'more_rows_than_came'],
  ],
])('%s is found', async (_, sql, found) => {
  await database.query(sql);
  expect(await codes()).toEqual(found);
  // Folding does not hide it.
  await foldLedger(database.db, CONNECTION, DAY);
  expect(await codes()).toEqual(found);
});

test('old pages are folded by epoch and day, once, and the chain still holds', async () => {
  const sums = () =>
    database.query(
      'select sum(pages) as pages, sum(messages) as messages, max(page_id) as last from whatsapp.sync_pages',
    );
  const before = await sums();
  expect(await foldLedger(database.db, CONNECTION, 3 * DAY)).toBe(4 * 3);
  expect((await ledger()).slice(0, 4)).toEqual([
    { epoch: 1, cursor_from: '0', cursor_to: '5', pages: 5, messages: 5, contacts: 5, folded: true },
    { epoch: 1, cursor_from: '5', cursor_to: '10', pages: 5, messages: 5, contacts: 5, folded: true },
    { epoch: 1, cursor_from: '10', cursor_to: '15', pages: 5, messages: 5, contacts: 5, folded: true },
    { epoch: 2, cursor_from: '0', cursor_to: '1', pages: 1, messages: 1, contacts: 1, folded: false },
  ]);
  expect(await sums()).toEqual(before);
  expect(await codes()).toEqual([]);
  expect(await foldLedger(database.db, CONNECTION, 3 * DAY)).toBe(0);
  // Later, with what was folded among it; replication goes on behind it.
  expect(await foldLedger(database.db, CONNECTION, 1)).toBe(3 * 4);
  await applyAnswer(database.db, {
    cursor: 16,
    messages: [{ message_id: 'm16', conversation_id: 'c', seq: 16 }],
  });
  expect(await ledger()).toHaveLength(7);
  expect(await codes()).toEqual([]);
  // A day that was folded is as provable as its pages were.
  await database.query(`delete from whatsapp.sync_pages where ${nth(1)}`);
  expect(await codes()).toEqual(['gap_in_ledger']);
});

test('rows of a page that moves no cursor are counted beside the ledger', async () => {
  onTestFinished(async () => {
    await database.query('delete from whatsapp.conversations');
  });
  const conversations = [{ conversation_id: 'late', seq: 15 }];
  const { tally } = await applyAnswer(database.db, { cursor: 15, conversations });
  expect(tally.conversation.inserted).toBe(1);
  expect(await codes()).toEqual([]);
});

test('so are rows that such a page put aside, once they are stored', async () => {
  const other = 'conn_other';
  const page = (cursor: number, body: unknown) =>
    applyAnswer(
      database.db,
      { cursor, messages: [{ message_id: `m${cursor} ${body}`, conversation_id: 'c', body, seq: 1 }] },
      {},
      other,
    );
  const problems = async () => (await checkLedger(database.db, other)).map(({ code }) => code);
  await page(1, 'good');
  await page(1, 7);
  await page(2, 8);
  // It comes once more, at an unmoved cursor.
  await page(2, 8);
  for (const { id } of await database.query<{ id: string }>(
    `update whatsapp.quarantine set record_json = regexp_replace(record_json, '"body":(\\d)', '"body":"\\1"')
      returning quarantine_id as id`,
  )) {
    expect(await retryDeadLetter(database.db, id, contextOf(database.db))).toEqual({ applied: 'inserted' });
    expect(await problems()).toEqual([]);
  }
  // What came with a page of the ledger is counted there alone.
  await database.query(
    `insert into whatsapp.messages (connection_id, message_id) values ('${other}', 'never came')`,
  );
  expect(await problems()).toEqual(['counter_differs', 'more_rows_than_came']);
});

test('counters are set to what is there', async () => {
  await database.query(`delete from whatsapp.messages where message_id in ('m3', 'm4')`);
  await database.db.transaction().execute(async (trx) => {
    await lockState(trx, CONNECTION);
    await setCounters(trx, CONNECTION);
  });
  expect(await codes()).toEqual([]);
});
