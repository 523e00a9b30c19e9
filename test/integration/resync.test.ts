import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Connection } from '../../src/simulator/connection.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { BESIDE, inTransaction } from '../../src/store/transaction.ts';
import { catchUp } from '../../src/sync/catch-up.ts';
import { runCommand } from '../support/command.ts';
import {
  createTestDatabase,
  expectNoConnections,
  openTestDatabase,
  type TestDatabase,
} from '../support/database.ts';
import { createReplica, differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker } from '../support/worker.ts';

const ID = 'conn_a';
let simulator: Simulator;
let connection: Connection;
let database: TestDatabase;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 1_200, connections: [ID] });
  connection = simulator.world.connection(ID);
});
afterAll(() => simulator.close());
beforeEach(async () => {
  database = await createTestDatabase({ migrated: true });
});
afterEach(() => database.drop());

const env = () => quickSettings(database.url, simulator.url);

/** One pass; everything is closed after it, so that Postgres has counted what it did. */
async function pass(more: Record<string, string> = {}): Promise<void> {
  const replica = await createReplica({ ...env(), ...more });
  await replica.worker.start();
  const { signal } = new AbortController();
  const results = await catchUp(replica.worker, replica.workerOptions, [ID], { maxFailures: 5 }, signal);
  await replica.worker.stop();
  await replica.close();
  expect(results).toMatchObject([{ caughtUp: true }]);
}

async function resync(more?: Record<string, string>): Promise<void> {
  const { status } = await runCommand(['resync', '--connection', ID, '--yes'], env());
  expect(status).toBe(0);
  await pass(more);
}

const TABLES = ['messages', 'conversations', 'conversation_participants', 'contacts', 'message_revisions'];

/** How many rows were ever written, table by table, as Postgres counts them; and how many of them are dead. */
async function written(): Promise<Record<string, Record<string, number>>> {
  // A backend tells its counts when it ends, if not before.
  await expectNoConnections(database.name);
  const rows = await database.query<Record<string, string>>(
    'select relname, n_tup_ins, n_tup_upd, n_tup_del, n_dead_tup from pg_stat_user_tables',
  );
  return Object.fromEntries(
    rows.map(({ relname, ...counts }) => [
      relname,
      Object.fromEntries(Object.entries(counts).map(([name, value]) => [name.slice(2), Number(value)])),
    ]),
  );
}

async function agrees(): Promise<void> {
  const db = openTestDatabase(database.url);
  expect(await differencesFromTruth(db, simulator)).toEqual([]);
  await db.destroy();
}

const SMALL = { PAGE_LIMIT: '90', PAGE_LIMIT_MAX: '90' };

test.each([[[]], [['--yes']]])(
  'an id that nobody knows is refused before anything is asked: %j',
  async (more) => {
    const refused = await runCommand(['resync', '--connection', 'conn_typo', ...more], env());
    expect(refused).toEqual({
      ...{ status: 1, stdout: '' },
      stderr: 'wa-replica: no connection conn_typo is known here\n',
    });
  },
);

test('one that is removed is refused: nobody would fetch it', async () => {
  await pass();
  await database.query('update whatsapp.connections set removed_at = now()');
  const refused = await runCommand(['resync', '--connection', ID, '--yes'], env());
  expect(refused).toEqual({
    ...{ status: 1, stdout: '' },
    stderr: `wa-replica: ${ID} is removed: no key lists it any more, so that nobody would fetch it\n`,
  });
  expect(await database.query('select epoch from whatsapp.sync_state')).toEqual([{ epoch: 1 }]);
});

// A contact has the cursor of its answer for a version: in other pages it comes with a higher or a lower one.
test.each([
  ['the same pages', {}, {}],
  ['smaller ones', {}, SMALL],
  ['larger ones', SMALL, {}],
])('a resync in %s writes nothing that is identical: no tuple dies', async (_, first, again) => {
  await pass(first);
  const before = await written();
  expect(before.messages).toMatchObject({ tup_ins: connection.messages.length, tup_upd: 0, dead_tup: 0 });
  await resync(again);
  const after = await written();
  for (const table of TABLES) expect({ [table]: after[table] }).toEqual({ [table]: before[table] });
  // The counts are those of now: what has to be written was.
  expect(after.sync_pages!.tup_ins).toBeGreaterThan(before.sync_pages!.tup_ins!);
  expect(after.sync_state!.tup_upd).toBeGreaterThan(before.sync_state!.tup_upd!);
  const [state] = await database.query('select epoch, numbering, epoch_reason from whatsapp.sync_state');
  expect(state).toEqual({ epoch: 2, numbering: 1, epoch_reason: 'resync' });
  await agrees();
});

test('what was tampered with at an equal seq is mended, and nothing else is written', async () => {
  await pass();
  const group = connection.conversations.find((one) => one.members.length >= 3)!.id;
  const tamper = async (sql: string) => {
    expect(await database.query(`${sql} returning 1 as done`)).toHaveLength(1);
  };
  const one = (table: string, where = 'true') =>
    `(connection_id, ctid) in (select connection_id, ctid from whatsapp.${table} where ${where} limit 1)`;
  await tamper(`update whatsapp.messages set body = 'forged' where ${one('messages', 'body is not null')}`);
  await tamper(
    `update whatsapp.messages set media = media - 'file_size' where ${one('messages', "media ? 'file_size'")}`,
  );
  await tamper(
    `update whatsapp.messages set extra = '{"forged":1}' where ${one('messages', 'extra is null')}`,
  );
  await tamper(`update whatsapp.messages set sent_at = sent_at + interval '1 microsecond'
    where ${one('messages', 'media is null and body is not null and extra is not null')}`);
  await tamper(
    `update whatsapp.conversations set subject = 'forged' where ${one('conversations', "kind = 'group'")}`,
  );
  await tamper(`update whatsapp.contacts set display_name = 'forged' where ${one('contacts')}`);
  const member = (nth: number) =>
    `connection_id = '${ID}' and conversation_id = '${group}' and participant_jid = (select participant_jid
      from whatsapp.conversation_participants where conversation_id = '${group}' order by 1 offset ${nth} limit 1)`;
  await tamper(`update whatsapp.conversation_participants set role = 'forged' where ${member(1)}`);
  await tamper(`delete from whatsapp.conversation_participants where ${member(0)}`);
  await tamper(`insert into whatsapp.conversation_participants (connection_id, conversation_id, participant_jid)
    values ('${ID}', '${group}', 'forged@lid')`);
  const before = await written();
  await resync();
  const after = await written();
  const delta = (table: string) =>
    ['tup_ins', 'tup_upd', 'tup_del'].map((name) => after[table]![name]! - before[table]![name]!);
  expect(delta('messages')).toEqual([0, 4, 0]);
  expect(delta('contacts')).toEqual([0, 1, 0]);
  // The one with the forged subject, and the one whose membership differed, unless they are one.
  expect(delta('conversations')[1]).toBeLessThanOrEqual(2);
  expect(delta('conversation_participants')).toEqual([1, 1, 1]);
  await agrees();
  // A forged text is a replaced version like any other, and so are forged media.
  const kept = await database.query('select body from whatsapp.message_revisions');
  expect(kept).toHaveLength(2);
  expect(kept).toContainEqual({ body: 'forged' });
  const [state] = await database.query('select numbering from whatsapp.sync_state');
  expect(state).toEqual({ numbering: 1 });
});

test('it is catching up from the resync on, not from its first page', async () => {
  const state = async () =>
    JSON.parse((await runCommand(['status', '--json'], env())).stdout).connections[0].state;
  await pass();
  expect(await state()).toBe('live');
  await runCommand(['resync', '--connection', ID, '--yes'], env());
  expect(await state()).toBe('catching_up');
  await pass();
  expect(await state()).toBe('live');
});

test('a resync while a turn fails is heeded at the next renewal, however long the pause after it', async () => {
  const long = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', BACKOFF_MAX: '1h' };
  // It hears no NOTIFY, as with LISTEN_DATABASE_URL=off.
  const worker = await startWorker({ ...env(), ...long }, { discovers: false });
  const db = openTestDatabase(database.url);
  try {
    await waitFor(() => worker.told('caught_up').length, { what: 'the first pass' });
    await inTransaction(db, BESIDE, async (trx) => {
      await lockState(trx, ID);
      simulator.faults.script({ kind: 'answer', status: 402 }, 1, { route: 'sync' });
      worker.worker.wake(ID);
      await waitFor(() => worker.told('failed').length, { what: 'the refusal' });
      await startEpoch(trx, ID, 'resync', false);
    });
    const again = 'select from whatsapp.sync_pages where epoch = 2';
    await waitFor(async () => (await database.query(again)).length, { what: 'the second epoch' });
  } finally {
    await worker.stop();
    await db.destroy();
  }
});
