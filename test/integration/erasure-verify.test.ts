/** Erasure (R20) and RETAIN_MESSAGES against an upstream that goes on serving everything: no drift, nothing back. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyContext } from '../../src/cli/verifying.ts';
import { CONTACT } from '../../src/entities.ts';
import { forgettingOf } from '../../src/replica/writing.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import type { Person } from '../../src/simulator/records.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { readBefore } from '../../src/store/comparison.ts';
import { databaseTime } from '../../src/store/progress.ts';
import { sums } from '../../src/store/verifications.ts';
import { erase } from '../../src/sync/erase.ts';
import { expireMessages } from '../../src/sync/retention.ts';
import type { VerifyResult } from '../../src/verify/context.ts';
import { readListed } from '../../src/verify/listed.ts';
import { look } from '../../src/verify/look.ts';
import { ListReader } from '../../src/verify/reader.ts';
import { repair } from '../../src/verify/repair.ts';
import { verify } from '../../src/verify/verification.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, openTestDatabase, type TestDatabase } from '../support/database.ts';
import { dump, traces } from '../support/dump.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
let simulator: Simulator;
let connection: Connection;
let database: TestDatabase;
let worker: TestWorker;
let person: Person;
const { signal } = new AbortController();

const env = () => ({
  ...quickSettings(database.url, simulator.url),
  ...{ REQUEST_RATE: '1000', VERIFY_RATE: '1000', RETAIN_MESSAGES: '30d' },
  ERASURE_KEY: 'a key of the tests that nobody guesses',
});
const check = (repair: boolean): Promise<VerifyResult> =>
  verify(
    { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 },
    ID,
    { cause: 'command', repair },
    signal,
  );

beforeAll(async () => {
  simulator = await startSimulator({ messages: 400, connections: [ID] });
  connection = simulator.world.connection(ID);
  // In a chat and in a group, by number and by LID, and with a reaction to somebody else's message.
  person = connection.people.find((one) => one.hasChat && one.phoneKnown && one.lidKnown)!;
  const others = connection.people.filter((one) => one !== person).slice(0, 2);
  const group = connection.addGroup('Three of us', [person, ...others]);
  // By a clock that is ahead: later than the erasure, and there before it.
  const sentAt = Date.now() + 30_000;
  const said = connection.addMessage({ conversation: group, sender: others[0]!, sentAt });
  connection.addMessage({ conversation: group, sender: person, sentAt });
  connection.react(said, person, '👍');
  database = await createTestDatabase({ migrated: true });
  worker = await startWorker(env(), { discovers: false });
  await caughtUp();
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await database?.drop();
});

const state = async () =>
  (
    await database.query(
      'select epoch, cursor, has_more, caught_up_at >= epoch_started_at as done from whatsapp.sync_state',
    )
  )[0]!;
async function caughtUp(): Promise<void> {
  const done = async () => {
    const { cursor, done } = await state();
    return done === true && cursor === connection.newest.toString();
  };
  await waitFor(done, { what: 'everything to be replicated' });
}
const names = () => [person.who.phone, person.who.lid, person.id];
const TABLES = [
  'messages',
  'contacts',
  'conversations',
  'conversation_participants',
  'conversation_counts',
  'jids',
];
const rows = async () => {
  const all = await dump(database);
  return TABLES.flatMap((table) => all.get(table)!.map((row) => `${table}: ${row}`));
};

test('neither resync nor repair brings anybody back, and nothing counts as drift', async () => {
  const before = await rows();
  expect(traces(await dump(database), names()).length).toBeGreaterThan(10);
  const { key } = forgettingOf(worker.settings);
  const { counts } = await erase(worker.maintenance, {
    ...{ who: { jid: person.phoneJid }, connectionId: undefined, forever: false, key: key!, changes: true },
    schema: 'whatsapp',
  });
  expect(counts).toMatchObject({ contacts: 1, conversations: 1 });
  for (const count of [counts.messages, counts.tombstones, counts.mentions, counts.memberships]) {
    expect(count).toBeGreaterThan(0);
  }
  expect(traces(await dump(database), names())).toEqual([]);
  const after = await rows();
  // What is left is as it was, but for tombstones, messages with the person's reactions, and their group's counts.
  const untouched = new Set(before);
  expect(after.filter((row) => !untouched.has(row))).toHaveLength(counts.tombstones + counts.mentions);

  const verified = await check(true);
  expect(verified).toMatchObject({ state: 'finished', ledger: [] });
  expect(sums(verified.counts)).toMatchObject({ drift: 0, mended: 0, remaining: 0 });
  expect(verified.counts.contact.exempt).toBe(1);
  expect(verified.counts.message.exempt).toBeGreaterThan(0);
  expect(await rows()).toEqual(after);

  expect(await runCommand(['resync', '--connection', ID, '--yes'], env())).toMatchObject({ status: 0 });
  await waitFor(async () => (await state()).epoch === 2, { what: 'the new epoch' });
  await caughtUp();
  expect(await rows()).toEqual(after);
  expect(traces(await dump(database), names())).toEqual([]);
  const told = () =>
    worker.events.reduce((sum, event) => sum + (event.type === 'page' ? event.suppressed.erased : 0), 0);
  const least = counts.messages + counts.tombstones + counts.contacts + counts.conversations;
  await waitFor(() => told() >= least, { what: 'all that was erased to be told of' });
});

test('a verification that is interrupted in the chat keeps no id of it, and begins anew', async () => {
  const chat = connection.conversations.find((one) => one.direct === person)!;
  const walked = connection.conversations.map(({ id }) => id).sort();
  const stop = new AbortController();
  let chats = 0;
  simulator.stats.onRequest = ({ route }) => {
    if (route === 'messages' && chats++ === walked.indexOf(chat.id)) stop.abort();
  };
  const context = { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 };
  const order = { cause: 'schedule', repair: false, resume: true } as const;
  expect(await verify(context, ID, order, stop.signal)).toMatchObject({ state: 'interrupted' });
  simulator.stats.onRequest = null;
  // The feed tells ids that name nobody.
  const left = traces(await dump(database), [chat.id]).filter((row) => !row.startsWith('changes:'));
  expect(left).toEqual([]);
  const result = await verify(context, ID, order, signal);
  expect(result.state).toBe('finished');
  expect(result.counts.contact.checked).toBe(connection.people.length);
});

test('messages of later replicate, and are verified; the contact that was refused meanwhile is mended', async () => {
  const chat = connection.conversations.find((one) => one.direct === person)!;
  const message = connection.addMessage({ conversation: chat, sender: person, sentAt: Date.now() + 60_000 });
  await caughtUp();
  const id = connection.messageId(message.index);
  expect(await database.query('select 1 from whatsapp.messages where message_id = $1', [id])).toHaveLength(1);
  const found = await check(false);
  expect(found.counts.contact).toMatchObject({ missing: 1 });
  const mended = await check(true);
  expect(sums(mended.counts)).toMatchObject({ remaining: 0 });
  expect(sums((await check(false)).counts)).toMatchObject({ drift: 0 });
});

test('what a page or an erasure settles between look and repair is neither written nor told to remain', async () => {
  const [one, other] = connection.people.filter((each) => each !== person && each.phoneKnown);
  const context = { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 };
  const ids = [one!.id, other!.id];
  await database.query(`create table kept as select * from whatsapp.contacts where person_id = any($1)`, [
    ids,
  ]);
  await database.query('delete from whatsapp.contacts where person_id = any($1)', [ids]);
  const storedBefore = await databaseTime(worker.db);
  const target = {
    connectionId: ID,
    ...(await readBefore(worker.db, ID, 0))!,
    storedBefore,
    sentAfter: null,
  };
  const { list, release } = await new ListReader(context, ID, 0).contacts(signal);
  const found = (await look(context, CONTACT, readListed(CONTACT, list), target, signal))!;
  release();
  expect(found.good.map(({ id }) => id).sort()).toEqual([...ids].sort());
  // One comes back as a page would bring it, the other is erased.
  await database.query('insert into whatsapp.contacts select * from kept where person_id = $1', [one!.id]);
  await erase(worker.maintenance, {
    ...{ who: { jid: other!.phoneJid }, connectionId: undefined, forever: false, changes: true },
    ...{ key: forgettingOf(worker.settings).key!, schema: 'whatsapp' },
  });
  const before = await rows();
  expect(await repair(context, CONTACT, found, target)).toBe(2);
  expect(await rows()).toEqual(before);
  await database.query('drop table kept');
});

test('what cannot be stored of somebody erased is put aside by nobody, and is no drift', async () => {
  const chat = connection.conversations.find((one) => one.direct === person)!;
  const bad = { message_id: 'bad', conversation_id: chat.id, chat_jid: person.phoneJid, body: 7 };
  connection.injectRaw('message', (seq) =>
    JSON.stringify({ ...bad, sent_at: new Date(Date.now() - 3_600_000), seq: Number(seq) }),
  );
  await caughtUp();
  expect(await database.query('select record_id from whatsapp.quarantine')).toEqual([]);
  expect(sums((await check(false)).counts)).toMatchObject({ drift: 0 });
});

test('messages that are too old go, do not come back, and are no drift', async () => {
  const db = openTestDatabase(database.url);
  try {
    await database.query(
      `update whatsapp.messages set sent_at = sent_at - interval '31 days' where message_id in
        (select message_id from whatsapp.messages where erased_at is null order by sent_at limit 25)`,
    );
    // The upstream's own are as old, from a moment on: it serves what is older than RETAIN_MESSAGES.
    const { limits } = worker;
    const context = { db, limits, retain: 30 * 86_400_000, changes: true };
    expect(await expireMessages(context, signal, 10)).toBe(25);
    expect(await expireMessages(context, signal)).toBe(0);
    const [books] = await database.query(
      `select stored_messages = (select count(*) from whatsapp.messages) as stored,
        (select sum(messages_in + messages_out) from whatsapp.conversation_counts)
          = (select count(*) from whatsapp.messages where conversation_id is not null) as counted,
        not exists (select from whatsapp.conversation_counts n where n.first_message_at is distinct from
          (select min(sent_at) from whatsapp.messages m where m.conversation_id = n.conversation_id)) as first,
        not exists (select from whatsapp.message_revisions r where not exists
          (select from whatsapp.messages m where m.message_id = r.message_id)) as revisions,
        not exists (select from whatsapp.message_reactions r where not exists
          (select from whatsapp.messages m where m.message_id = r.message_id)) as reactions
        from whatsapp.sync_state`,
    );
    expect(books).toEqual({ stored: true, counted: true, first: true, revisions: true, reactions: true });
    expect(
      await database.query(`select 1 from whatsapp.changes where kind = 'message' and op = 'deleted'
        and change_no > (select last_change_no - 25 from whatsapp.sync_state)`),
    ).toHaveLength(25);
  } finally {
    await db.destroy();
  }
});
