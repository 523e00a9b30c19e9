/** How often a verification looks before it calls something drift. */
import { beforeEach, expect, test } from 'vitest';
import { CONTACT, type Entity, MESSAGE } from '../../src/entities.ts';
import { readBefore } from '../../src/store/comparison.ts';
import { databaseTime } from '../../src/store/progress.ts';
import { parseList } from '../../src/upstream/lists.ts';
import { readListed } from '../../src/verify/listed.ts';
import { look } from '../../src/verify/look.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
const known = { message_id: 'm', conversation_id: 'c', seq: 5 };
const lost = { message_id: 'lost', conversation_id: 'c', seq: 6 };

beforeEach(async () => {
  for (const table of ['messages', 'contacts', 'quarantine', 'sync_state', 'sync_pages', 'connections'])
    await database.query(`delete from whatsapp.${table}`);
  await applyAnswer(database.db, { cursor: 10, messages: [known], contacts: [{ person_id: 'p' }] });
});

/** Looks for these records. @param happens at each settling, by its number. */
async function lookFor(entity: Entity, records: unknown[], happens: Record<number, string> = {}) {
  const storedBefore = await databaseTime(database.db);
  const at = (await readBefore(database.db, CONNECTION, 0))!;
  const target = { connectionId: CONNECTION, ...at, storedBefore, sentAfter: null };
  const list = parseList(Buffer.from(JSON.stringify({ items: records })), 'items');
  let settled = 0;
  const context = {
    db: database.db,
    forgetting: { key: undefined, retain: undefined },
    lookAgainAfter: 1,
    async settle() {
      const sql = happens[++settled];
      if (sql !== undefined) await database.query(sql);
    },
  };
  const found = await look(context, entity, readListed(entity, list), target, new AbortController().signal);
  return { settled, ...found, ids: found?.good.map(({ id }) => id) };
}
/** As a page does that began before the list was asked for, and was committed after the first look. */
const brought = `insert into whatsapp.messages (connection_id, message_id, conversation_id, seq, first_synced_at)
  values ('${CONNECTION}', 'lost', 'c', 6, now() - interval '1 minute')`;
const putAside = (id: string) =>
  `insert into whatsapp.quarantine (connection_id, kind, record_id, version, record_sha256)
    values ('${CONNECTION}', 'message', '${id}', 99, '${id}')`;

test('at what is right, once and no more', async () => {
  expect(await lookFor(MESSAGE, [known])).toMatchObject({ settled: 0, ids: [], known: 1 });
});

test('at what the stream has passed, once more', async () => {
  expect(await lookFor(MESSAGE, [known, lost])).toMatchObject({ settled: 1, ids: ['lost'], known: 1 });
});

test('at what a page was bringing meanwhile, once more, and knows it then', async () => {
  expect(await lookFor(MESSAGE, [known, lost], { 1: brought })).toMatchObject({
    settled: 1,
    ids: [],
    known: 2,
  });
});

test('at what differs or is behind, and knows each once', async () => {
  expect(await lookFor(MESSAGE, [{ ...known, body: 'x' }])).toMatchObject({ ids: ['m'], known: 1, ahead: 0 });
  expect(await lookFor(MESSAGE, [{ ...known, seq: 4 }])).toMatchObject({ settled: 0, known: 1, ahead: 1 });
});

test.each([
  ['beyond the cursor', MESSAGE, { ...lost, seq: 11 }],
  ['without a version', MESSAGE, { ...lost, seq: undefined }],
  ['a contact', CONTACT, { person_id: 'p', display_name: 'new' }],
])('at what the stream may not have reached, three times more: %s', async (_, entity, record) => {
  expect(await lookFor(entity, [record])).toMatchObject({ settled: 3, good: [{}] });
});

test('at what comes at the third look, no more than that', async () => {
  const beyond = { ...lost, seq: 11 };
  expect(await lookFor(MESSAGE, [beyond], { 2: brought.replace('6,', '11,') })).toMatchObject({
    ...{ settled: 2, ids: [], exempt: 0, known: 0 },
  });
});

test('at what cannot be stored, until the quarantine has heard of it', async () => {
  const bad = { ...lost, body: 7 };
  expect(await lookFor(MESSAGE, [bad])).toMatchObject({ settled: 3, bad: [{ recordId: 'lost' }], exempt: 0 });
  const heard = { 2: putAside('lost') };
  expect(await lookFor(MESSAGE, [bad], heard)).toMatchObject({ settled: 2, bad: [], exempt: 1 });
  expect(await lookFor(MESSAGE, [bad])).toMatchObject({ settled: 0, bad: [], exempt: 1 });
});

test('at what was put aside, once more, and then as no drift', async () => {
  await database.query(putAside('lost'));
  expect(await lookFor(MESSAGE, [lost])).toMatchObject({ settled: 1, ids: [], exempt: 1 });
});

test.each(['update whatsapp.sync_state set numbering = numbering + 1', 'delete from whatsapp.sync_state'])(
  'not at a list that is of another numbering by now: %s',
  async (sql) => {
    const { ids, settled } = await lookFor(MESSAGE, [lost], { 1: sql });
    expect({ ids, settled }).toEqual({ ids: undefined, settled: 1 });
  },
);
