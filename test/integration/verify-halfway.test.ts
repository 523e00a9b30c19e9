/** Verifications that something befalls half-way: never does one say that all is well of what it did not compare. */
import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { verifyContext } from '../../src/cli/verifying.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import type { Conversation, Person } from '../../src/simulator/records.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { openDatabase } from '../../src/store/database.ts';
import { lockState } from '../../src/store/state.ts';
import type { VerifyContext, VerifyOrder, VerifyProgress, VerifyResult } from '../../src/verify/context.ts';
import { verify } from '../../src/verify/verification.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
const HOUR = 3_600_000;
const { signal } = new AbortController();
let simulator: Simulator;
let connection: Connection;
/** Of 50 messages each, three pages, in the order in which they are walked. */
let chats: Conversation[];
let database: TestDatabase;
let worker: TestWorker;
let context: VerifyContext;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 0, connections: [ID] });
  connection = simulator.world.connection(ID);
  const traits = { saved: true, phoneKnown: true, lidKnown: true };
  const people = [connection.addPerson(traits), connection.addPerson(traits)];
  const groups = ['One', 'Two', 'Three'].map((subject) => connection.addGroup(subject, people));
  for (const conversation of groups) {
    for (let ago = 50; ago > 0; ago--) {
      connection.addMessage({ conversation, sender: people[0]!, sentAt: Date.now() - ago * HOUR });
    }
  }
  chats = groups.sort((a, b) => (a.id < b.id ? -1 : 1));
  database = await createTestDatabase({ migrated: true });
  worker = await startWorker(
    {
      ...quickSettings(database.url, simulator.url),
      ...{ REQUEST_RATE: '1000', VERIFY_RATE: '1000', PAGE_LIMIT: '20', PAGE_LIMIT_MAX: '20' },
    },
    { discovers: false },
  );
  context = { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 };
  const stored = async () =>
    (await database.query('select cursor from whatsapp.sync_state'))[0]!.cursor === String(connection.newest);
  await waitFor(stored, { what: 'everything to be replicated' });
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await database?.drop();
});
beforeEach(async () => {
  // Of the first chat, beyond its first two pages.
  const gone = chats[0]!.messages.slice(0, 3).map(({ index }) => connection.messageId(index));
  await database.query('delete from whatsapp.messages where message_id = any($1)', [gone]);
});
afterEach(async () => {
  simulator.faults.clear();
  simulator.stats.onRequest = null;
  expect(await check({ repair: true })).toMatchObject({ state: 'finished', ledger: [] });
});

const check = (order: Partial<VerifyOrder> = {}, of = context, until = signal): Promise<VerifyResult> =>
  verify(of, ID, { cause: 'command', repair: false, ...order }, until);

/** Has something happen at the next request of messages after the given number of them. */
function afterPages(pages: number, happens: () => void): void {
  let seen = 0;
  simulator.stats.onRequest = ({ route }) => {
    if (route === 'messages' && ++seen === pages) happens();
  };
}

test.each([
  ['is not found, though nothing has left the window', { status: 404 }, 'not_found'],
  ['is empty, and has more behind it', { status: 200, body: '{"messages":[],"has_more":true}' }, 'stalled'],
  [
    'has more behind it, and no id to go back from',
    { status: 200, body: '{"messages":[{"body":"no id"}],"has_more":true}' },
    'stalled',
  ],
])('a page that %s, is not the end', async (_, answer, kind) => {
  afterPages(1, () => simulator.faults.script({ kind: 'answer', ...answer }, 1, { route: 'messages' }));
  const result = await check();
  expect(result).toMatchObject({ state: 'failed', error: { kind } });
  // It costs no other conversation.
  expect(result.counts.message.checked).toBeGreaterThanOrEqual(120);
});

test('a page that ends where the one before it did is not the end, nor is it read for ever', async () => {
  const { id, messages } = chats[0]!;
  // The first page ends there.
  const last = { message_id: connection.messageId(messages[30]!.index), conversation_id: id, seq: 1 };
  const body = JSON.stringify({ messages: [last], has_more: true });
  afterPages(1, () =>
    simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'messages' }),
  );
  expect(await check()).toMatchObject({ state: 'failed', error: { kind: 'stalled' } });
});

test('what goes back to a message that has left the window meanwhile is at its end', async () => {
  afterPages(1, () => simulator.faults.script({ kind: 'answer', status: 404 }, 1, { route: 'messages' }));
  // The first page ends some 20 hours ago.
  const result = await check({}, { ...context, window: 40 * HOUR });
  expect(result).toMatchObject({ state: 'finished', counts: { message: { missing: 0, not_served: 27 } } });
});

test('since when is asked by the time a message was sent at, where it has one', async () => {
  const { id, messages } = chats[0]!;
  const message = { message_id: connection.messageId(messages[40]!.index), conversation_id: id, seq: 1 };
  const page = { messages: [{ ...message, sent_at: '0001-01-01T00:00:00Z' }], has_more: true };
  const body = JSON.stringify(page);
  simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'messages' });
  const whole = await check({ since: new Date(Date.now() - 60 * HOUR) });
  expect(whole).toMatchObject({ state: 'finished', counts: { message: { missing: 3 } } });
  const recent = await check({ since: new Date(Date.now() - 5 * HOUR) });
  expect(recent).toMatchObject({ state: 'finished', requests: 2 + chats.length });
  expect(recent.counts.message).toMatchObject({ checked: 60, missing: 0, not_served: 0 });
});

test('places that cannot be kept, since others have every connection for what takes long, end nothing', async () => {
  const url = { url: database.url, schema: 'whatsapp', applicationName: 'wa-replica test' };
  const maintenance = openDatabase({ ...url, poolSize: 1, silenceTimeout: 300, onIdleError: () => {} });
  const held = await maintenance.startTransaction().execute();
  // It is not silent.
  const busy = setInterval(() => void sql`select 1`.execute(held), 50);
  const letGo = async () => {
    clearInterval(busy);
    if (!held.isRolledBack) await held.rollback().execute();
  };
  onTestFinished(async () => {
    await letGo();
    await maintenance.destroy();
  });
  let places = 0;
  const onProgress = ({ stage }: VerifyProgress) => {
    if (stage === 'messages' && ++places === 4) void letGo();
  };
  const result = await check({ onProgress }, { ...context, maintenance });
  expect(result).toMatchObject({ state: 'finished', counts: { message: { missing: 3 } } });
  expect(places).toBeGreaterThan(4);
});

test('one that is interrupted does not wait for an erasure, and is gone on with from its last place', async () => {
  const stop = new AbortController();
  const erasure = await database.db.startTransaction().execute();
  onTestFinished(async () => {
    if (!erasure.isRolledBack) await erasure.rollback().execute();
  });
  let places = 0;
  const onProgress = () => void places++;
  afterPages(1, () => stop.abort());
  const settled = async () => void (await lockState(erasure, ID));
  const order = { cause: 'schedule' as const, resume: true, onProgress };
  const first = await check(order, { ...context, notePatience: 2_000, settle: settled }, stop.signal);
  expect(first).toMatchObject({ state: 'interrupted', counts: { contact: { checked: 2 } } });
  const noted = `select state, position, counts from whatsapp.verifications order by verification_id desc limit 1`;
  const place = { stage: 'conversations' };
  expect(await database.query(noted)).toMatchObject([{ state: 'interrupted', position: place }]);
  expect(places).toBe(2);
  await erasure.rollback().execute();
  const { counts } = await check(order);
  expect(counts).toMatchObject({ contact: { checked: 2 }, conversation: { checked: 3 } });
});

test('one that goes on in the middle of a conversation counts none of its pages twice', async () => {
  const stop = new AbortController();
  // The third page of the second chat is not compared.
  afterPages(6, () => stop.abort());
  const order = { cause: 'schedule' as const, resume: true };
  expect(await check(order, context, stop.signal)).toMatchObject({ state: 'interrupted' });
  // Stored meanwhile: it is in no page that was read, nor in one that will be.
  const later = [ID, 'later', chats[1]!.id];
  await database.query(
    `insert into whatsapp.messages (connection_id, message_id, conversation_id, seq) values ($1, $2, $3, 1)`,
    later,
  );
  expect(await check(order)).toMatchObject({
    counts: { message: { checked: 150, missing: 3, not_served: 0 } },
  });
  await database.query(`delete from whatsapp.messages where message_id = 'later'`);
});

test("one whose connection is another worker's asks for no further page", async () => {
  let pages = 0;
  simulator.stats.onRequest = ({ route }) => void (route === 'messages' && pages++);
  expect(await check({ mayGoOn: () => pages < 2 })).toMatchObject({ state: 'interrupted' });
  expect(pages).toBe(2);
});

describe('a conversation that is not listed', () => {
  const noneListed = () =>
    simulator.faults.script({ kind: 'answer', status: 200, body: '{"items":[]}' }, 1, {
      route: 'conversations',
    });
  const notFound = () => simulator.faults.script({ kind: 'answer', status: 404 }, 1, { route: 'messages' });

  test('is read where messages of it are stored that should be served', async () => {
    noneListed();
    const counts = { message: { checked: 150, missing: 3 }, conversation: { checked: 0, not_served: 3 } };
    expect(await check()).toMatchObject({ state: 'finished', counts });
    noneListed();
    // All that is stored was sent before.
    const { requests } = await check({ since: new Date(Date.now() - HOUR / 2) });
    expect(requests).toBe(2);
  });

  test('may be gone', async () => {
    noneListed();
    notFound();
    expect(await check()).toMatchObject({ state: 'finished', counts: { message: { checked: 100 } } });
  });

  test('may have gone since it was', async () => {
    notFound();
    afterPages(1, noneListed);
    expect(await check()).toMatchObject({ state: 'finished', counts: { message: { checked: 100 } } });
  });

  test('is not gone where it has served a page', async () => {
    noneListed();
    afterPages(1, notFound);
    expect(await check()).toMatchObject({ state: 'failed', error: { kind: 'not_found' } });
  });
});

test('a conversation that could not be read is told of, also where another goes on', async () => {
  const stop = new AbortController();
  simulator.faults.script({ kind: 'answer', status: 404 }, 1, { route: 'messages' });
  afterPages(3, () => stop.abort());
  const order = { cause: 'schedule' as const, resume: true };
  expect(await check(order, context, stop.signal)).toMatchObject({ state: 'interrupted' });
  expect(await check(order)).toMatchObject({ state: 'failed', error: { kind: 'not_found' } });
});

test('of several conversations that could not be read, the first is told of', async () => {
  for (const status of [404, 400])
    simulator.faults.script({ kind: 'answer', status }, 1, { route: 'messages' });
  expect(await check()).toMatchObject({
    ...{ state: 'failed', error: { kind: 'not_found' } },
    counts: { message: { checked: 50 } },
  });
});

test('a conversation that is refused for itself leaves the limit of the key as it was', async () => {
  simulator.faults.script({ kind: 'answer', status: 400 }, 3, { route: 'messages' });
  const most = () => worker.admission.capOf(ID).most;
  const before = most();
  const result = await check({}, { ...context, pageLimit: 200, pageLimitMax: 200 });
  expect(result).toMatchObject({ state: 'failed', error: { kind: 'bad_request' } });
  expect(most()).toBe(before);
});

test('a contact that is renamed while the list is under way is not named back by a repair', async () => {
  const [person] = connection.people as [Person];
  const forge = () => database.query(`update whatsapp.contacts set display_name = 'forged'`);
  await forge();
  simulator.stats.onRequest = ({ route }) => {
    if (route === 'contacts') connection.rename(person, 'Renamed');
  };
  const result = await check({ repair: true });
  // The other one is.
  expect(result.counts.contact).toMatchObject({ different: 1, mended: 1 });
  const names = await database.query(
    `select display_name = 'forged' as forged, person_id = $1 and display_name = 'Renamed' as renamed
      from whatsapp.contacts order by 2`,
    [person.id],
  );
  expect(names).toEqual([
    { forged: false, renamed: false },
    { forged: false, renamed: true },
  ]);
});

test('a list of contacts that is behind the stream names nobody back', async () => {
  const [person] = connection.people as [Person];
  const name = async () =>
    (await database.query('select display_name from whatsapp.contacts where person_id = $1', [person.id]))[0]!
      .display_name;
  connection.rename(person, 'New');
  await waitFor(async () => (await name()) === 'New', { what: 'the new name' });
  const body = JSON.stringify({ items: [{ person_id: person.id, display_name: 'Old' }] });
  const behind = (listsBehind: number) => {
    simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'contacts' });
    return check({ repair: true }, { ...context, listsBehind });
  };
  expect((await behind(24 * HOUR)).counts.contact).toMatchObject({ checked: 1, different: 0 });
  expect(await name()).toBe('New');
  // From then on it is believed.
  expect((await behind(0)).counts.contact).toMatchObject({ different: 1, mended: 1 });
});

test('a list of which the connection was numbered anew meanwhile is read again', async () => {
  await database.query(`update whatsapp.contacts set display_name = 'forged'`);
  let lists = 0;
  simulator.stats.onRequest = ({ route }) => {
    if (route !== 'contacts' || ++lists > 1) return;
    connection.restartNumbering();
    connection.sync.ahead = 410;
  };
  const result = await check({ repair: true });
  expect(result).toMatchObject({ state: 'finished', ledger: [] });
  expect(lists).toBe(2);
  // Coming again with everything else, they are right before the list is.
  expect(result.counts.contact).toMatchObject({ checked: 2, different: 0 });
  expect(await database.query('select numbering from whatsapp.sync_state')).toEqual([{ numbering: 2 }]);
});
