/** Forgetting on the way that the daemon's pages take: fetched ahead, packed, and written by its loops. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { forgettingOf } from '../../src/replica/writing.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { erase } from '../../src/sync/erase.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { dump, traces } from '../support/dump.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
const WEEK = 7 * 86_400_000;
let simulator: Simulator;
let connection: Connection;
let database: TestDatabase;
let worker: TestWorker;

// The upstream serves a month, of which a week is kept.
const env = () => ({
  ...quickSettings(database.url, simulator.url),
  ...{ REQUEST_RATE: '1000', PAGE_LIMIT: '100', RETENTION_WINDOW: '7d', RETAIN_MESSAGES: '7d' },
  ERASURE_KEY: 'a key of the tests that nobody guesses',
});

beforeAll(async () => {
  simulator = await startSimulator({ messages: 600, connections: [ID] });
  connection = simulator.world.connection(ID);
  database = await createTestDatabase({ migrated: true });
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await database?.drop();
});

async function caughtUp(epoch: number): Promise<void> {
  const done = async () => {
    const [row] = await database.query<{ done: boolean; cursor: string }>(
      'select cursor, epoch = $1 and not has_more and caught_up_at >= epoch_started_at as done from whatsapp.sync_state',
      [epoch],
    );
    return row?.done === true && row.cursor === connection.newest.toString();
  };
  await waitFor(done, { what: 'everything to be replicated' });
}
const stored = async () =>
  (await database.query<{ id: string }>('select message_id as id from whatsapp.messages')).map(
    ({ id }) => id,
  );
/** Messages of the upstream that are younger than a week. */
const recent = () =>
  connection.messages
    .filter((one) => one.sentAt * 1000 > Date.now() - WEEK)
    .map((one) => connection.messageId(one.index));
const suppressed = (kind: 'erased' | 'expired') =>
  worker.events.reduce((sum, event) => sum + (event.type === 'page' ? event.suppressed[kind] : 0), 0);

test('old messages are dropped from the pages of a backlog, and the others are whole', async () => {
  simulator.faults.script({ kind: 'slow', delayMs: 200 }, 4, { route: 'sync' });
  worker = await startWorker(env(), { discovers: false });
  await waitFor(() => worker.worker.isBehind, { what: 'the backlog to be known' });
  await caughtUp(1);
  // The loop knows, and tells, what is in the tables a moment after it.
  await waitFor(() => !worker.worker.isBehind, { what: 'the loop to rest' });
  expect(recent().length).toBeGreaterThan(10);
  expect((await stored()).sort()).toEqual(recent().sort());
  expect(suppressed('expired')).toBe(connection.messages.length - recent().length);
});

test('nobody who was erased comes back with a resync', async () => {
  const person = connection.people.find((one) => one.hasChat && one.phoneKnown && one.lidKnown)!;
  const chat = connection.conversations.find((one) => one.direct === person)!;
  const group = connection.addGroup('Two of us', [person]);
  const sentAt = Date.now() - 60_000;
  for (const conversation of [chat, group]) connection.addMessage({ conversation, sender: person, sentAt });
  await caughtUp(1);
  const names = [person.who.phone, person.who.lid, person.id];
  expect(traces(await dump(database), names).length).toBeGreaterThan(4);
  const { key } = forgettingOf(worker.settings);
  const { counts } = await erase(worker.maintenance, {
    ...{ who: { jid: person.phoneJid }, connectionId: undefined, forever: false, key: key!, changes: true },
    schema: 'whatsapp',
  });
  expect([counts.contacts, counts.conversations, counts.tombstones]).toEqual([1, 1, 1]);
  const left = (await stored()).sort();
  expect(await runCommand(['resync', '--connection', ID, '--yes'], env())).toMatchObject({ status: 0 });
  await caughtUp(2);
  expect(traces(await dump(database), names)).toEqual([]);
  expect((await stored()).sort()).toEqual(left);
  const least = counts.messages + counts.tombstones + 2;
  await waitFor(() => suppressed('erased') >= least, { what: 'all that was erased to be told of' });
});

test('a worker without the key parks, and says why', async () => {
  await worker.stop();
  const { ERASURE_KEY: _, ...without } = env();
  worker = await startWorker(without, { discovers: false });
  connection.addMessage({ conversation: connection.conversations[0]!, sentAt: Date.now() });
  await waitFor(() => worker.told('failed').length > 0, { what: 'the failure' });
  const failed = worker.events.find((event) => event.type === 'failed');
  expect(failed).toMatchObject({ error: { kind: 'erasure_key', verdict: 'park' } });
});
