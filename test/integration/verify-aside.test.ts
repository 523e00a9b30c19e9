/** What was put aside once is no drift, and no reason to overlook, or to take away, what came good since. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { verifyContext } from '../../src/cli/verifying.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import type { RawRecord, RawText } from '../../src/simulator/records.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { sums } from '../../src/store/verifications.ts';
import { discard } from '../../src/sync/discard.ts';
import type { VerifyResult } from '../../src/verify/context.ts';
import { verify } from '../../src/verify/verification.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
let simulator: Simulator;
let connection: Connection;
let database: TestDatabase;
let worker: TestWorker;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 0, connections: [ID] });
  connection = simulator.world.connection(ID);
  database = await createTestDatabase({ migrated: true });
  const rates = { REQUEST_RATE: '1000', VERIFY_RATE: '1000' };
  worker = await startWorker(
    { ...quickSettings(database.url, simulator.url), ...rates },
    { discovers: false },
  );
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await database?.drop();
});

const check = (repair = false): Promise<VerifyResult> =>
  verify(
    { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 },
    ID,
    { cause: 'command', repair },
    new AbortController().signal,
  );
const caughtUp = () =>
  waitFor(
    async () => {
      const [state] = await database.query('select cursor from whatsapp.sync_state');
      return state?.cursor === String(connection.newest);
    },
    { what: 'everything to be replicated' },
  );

/** Two records that cannot be stored, or whose member cannot, which somebody discards. */
let contact: RawRecord;
let group: RawRecord;
const groupOf = (role: string) => (seq: bigint) =>
  `{"conversation_id":"g","kind":"group","subject":"as it is","seq":${seq},
    "participants":[{"participant_jid":"x@lid","role":"member"},{"participant_jid":"y@lid","role":${role}}]}`;

beforeEach(async () => {
  for (const raw of connection.raws.splice(0)) connection.replaceRaw(raw, '{}');
  for (const table of ['quarantine', 'contacts', 'conversations', 'conversation_participants'])
    await database.query(`delete from whatsapp.${table}`);
  contact = connection.injectRaw('contact', '{"person_id":"p","display_name":7}');
  group = connection.injectRaw('conversation', groupOf('7'));
  await caughtUp();
  await discard(worker.maintenance, {});
});
const becomes = async (record: RawRecord, text: RawText) => {
  connection.replaceRaw(record, text);
  await caughtUp();
};
const open = `select count(*)::integer from whatsapp.quarantine where kind = 'participant' and resolved_at is null`;
const members = () =>
  database.query('select participant_jid as jid, role from whatsapp.conversation_participants order by 1');

test('what somebody discarded stays away', async () => {
  const result = await check(true);
  expect(sums(result.counts)).toMatchObject({ drift: 0, mended: 0 });
  expect(result.counts.contact.exempt).toBe(1);
  expect(await members()).toEqual([{ jid: 'x@lid', role: 'member' }]);
});

test('a member that came good since is not taken away by the repair of its group', async () => {
  await becomes(group, groupOf('"admin"'));
  const both = [
    { jid: 'x@lid', role: 'member' },
    { jid: 'y@lid', role: 'admin' },
  ];
  expect(await members()).toEqual(both);
  await database.query(`update whatsapp.conversations set subject = 'forged'`);
  expect((await check(true)).counts.conversation).toMatchObject({ different: 1, mended: 1, exempt: 0 });
  expect(await members()).toEqual(both);
  await database.query(`delete from whatsapp.conversation_participants where participant_jid = 'y@lid'`);
  expect((await check(true)).counts.conversation).toMatchObject({ different: 1, mended: 1 });
  expect(await members()).toEqual(both);
});

test('a member that Postgres refuses stays away, whatever becomes of its group; the rest is mended', async () => {
  const refused = `"admin"},{"participant_jid":"${'z'.repeat(300)}@lid","too_large":1e200000`;
  await becomes(group, groupOf(refused));
  const both = await members();
  expect(both.map(({ jid }) => jid)).toEqual(['x@lid', 'y@lid']);
  const right = { missing: 0, different: 0, exempt: 1 };
  for (const [change, found] of [
    ['', right],
    [`update whatsapp.conversations set subject = 'forged'`, { different: 1, mended: 1, exempt: 0 }],
    ['delete from whatsapp.conversations', { missing: 1, mended: 1, exempt: 0 }],
    [`update whatsapp.conversation_participants set role = 'forged'`, { different: 1, mended: 1, exempt: 0 }],
    // Of that the quarantine has to hear first.
    [`delete from whatsapp.quarantine where kind = 'participant'`, { different: 1, mended: 1, exempt: 0 }],
    ['', right],
  ] as const) {
    if (change !== '') await database.query(change);
    expect(await check(true)).toMatchObject({ state: 'finished', counts: { conversation: found } });
    expect(await members()).toEqual(both);
    // He is not stored: whoever looks into the quarantine goes on finding him there.
    expect(await database.query(open)).toEqual([{ count: 1 }]);
  }
  await discard(worker.maintenance, {});
  expect(await check(true)).toMatchObject({ state: 'finished', counts: { conversation: right } });
  expect(await members()).toEqual(both);
});

test('nor is one whose like in the same group is aside', async () => {
  const twice = groupOf('7},{"participant_jid":"y@lid","role":"admin"');
  await becomes(group, twice);
  const before = await members();
  expect(before).toHaveLength(2);
  expect(await database.query(open)).toEqual([{ count: 1 }]);
  await database.query(`update whatsapp.conversations set subject = 'forged'`);
  expect((await check(true)).counts.conversation).toMatchObject({ different: 1, mended: 1 });
  expect(await members()).toEqual(before);
  expect(await database.query(open)).toEqual([{ count: 1 }]);
});

test('a group that is mended with all of its members resolves what was put aside of them', async () => {
  await becomes(group, groupOf('7'));
  expect(await database.query(open)).toEqual([{ count: 1 }]);
  await becomes(group, groupOf('"admin"'));
  expect(await members()).toHaveLength(2);
  // As if the page had not been there.
  const reopened = `update whatsapp.quarantine set resolved_at = null, resolution = null
    where resolution = 'superseded' returning 1`;
  expect(await database.query(reopened)).toHaveLength(1);
  await database.query('delete from whatsapp.conversations');
  expect((await check(true)).counts.conversation).toMatchObject({ missing: 1, mended: 1 });
  expect(await database.query(open)).toEqual([{ count: 0 }]);
});

test.each([
  ['is forged', `update whatsapp.contacts set display_name = 'forged' returning 1`, 'different'],
  ['is lost', 'delete from whatsapp.contacts returning 1', 'missing'],
])('a contact that came good since, and %s, is found and mended', async (_, change, found) => {
  await becomes(contact, '{"person_id":"p","display_name":"Good"}');
  expect(await database.query(change)).toHaveLength(1);
  expect((await check()).counts.contact).toMatchObject({ [found]: 1, exempt: 0 });
  expect((await check(true)).counts.contact).toMatchObject({ [found]: 1, mended: 1 });
  expect(await database.query('select display_name as name from whatsapp.contacts')).toEqual([
    { name: 'Good' },
  ]);
});
