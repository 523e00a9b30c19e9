/** Verification against the upstream's lists: what is found, what is not, what is mended. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { verifyContext } from '../../src/cli/verifying.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { type CountsByKind, sums } from '../../src/store/verifications.ts';
import type { VerifyContext, VerifyOrder, VerifyResult } from '../../src/verify/context.ts';
import { verify } from '../../src/verify/verification.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, openTestDatabase, type TestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
const DAY = 86_400_000;
let simulator: Simulator;
let connection: Connection;
let database: TestDatabase;
let worker: TestWorker;
let context: VerifyContext;
const { signal } = new AbortController();

beforeAll(async () => {
  simulator = await startSimulator({ messages: 400, connections: [ID] });
  connection = simulator.world.connection(ID);
  database = await createTestDatabase({ migrated: true });
  worker = await startWorker(env(), { discovers: false });
  context = { ...verifyContext(worker), lookAgainAfter: 10, listsBehind: 0 };
  await settled();
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await database?.drop();
});
afterEach(async () => {
  simulator.faults.clear();
  simulator.stats.onRequest = null;
  // Whatever a test left behind, the next one begins with tables that are right.
  expect(await check({ repair: true })).toMatchObject({ state: 'finished' });
});

const env = () => ({
  ...quickSettings(database.url, simulator.url),
  REQUEST_RATE: '1000',
  VERIFY_RATE: '1000',
  PAGE_LIMIT: '20',
  PAGE_LIMIT_MAX: '20',
});
const check = (order: Partial<VerifyOrder> = {}): Promise<VerifyResult> =>
  verify(context, ID, { cause: 'command', repair: false, ...order }, signal);

async function agrees(): Promise<boolean> {
  const db = openTestDatabase(database.url);
  try {
    return (await differencesFromTruth(db, simulator)).length === 0;
  } finally {
    await db.destroy();
  }
}
const settled = () => waitFor(agrees, { what: 'the tables to equal the truth' });

/** What is not zero, but for what was merely looked at. */
function drift({ counts }: { counts: CountsByKind }): object {
  const all = Object.entries(counts).map(([kind, { checked: _, ...rest }]) => {
    const found = Object.entries(rest).filter(([, count]) => count > 0);
    return [kind, Object.fromEntries(found)] as const;
  });
  return Object.fromEntries(all.filter(([, found]) => Object.keys(found).length > 0));
}

async function tamper(sql: string, rows = 1): Promise<void> {
  expect(await database.query(`${sql} returning 1 as done`)).toHaveLength(rows);
}
const some = (table: string, where = 'true', limit = 1) =>
  `(connection_id, ctid) in (select connection_id, ctid from whatsapp.${table} where ${where} limit ${limit})`;

/** Plants drift of every kind in different rows. */
async function plant(): Promise<void> {
  const recent = `sent_at > now() - interval '20 days'`;
  await tamper(
    `delete from whatsapp.messages where ${some('messages', `${recent} and media is null`, 3)}`,
    3,
  );
  await tamper(
    `update whatsapp.messages set body = 'forged' where ${some('messages', `${recent} and body is not null`)}`,
  );
  await tamper(
    `update whatsapp.messages set seq = 1, body = 'old' where ${some('messages', `${recent} and body <> 'forged'`, 2)}`,
    2,
  );
  await tamper(`delete from whatsapp.conversations where ${some('conversations', `kind = 'direct'`)}`);
  await tamper(
    `update whatsapp.conversations set subject = 'forged' where ${some('conversations', `kind = 'group'`)}`,
  );
  await tamper(`update whatsapp.conversation_participants set role = 'forged' where
    conversation_id = (select conversation_id from whatsapp.conversations where kind = 'group' and subject <> 'forged' limit 1)
    and participant_jid = (select min(participant_jid) from whatsapp.conversation_participants where conversation_id =
      (select conversation_id from whatsapp.conversations where kind = 'group' and subject <> 'forged' limit 1))`);
  await tamper(`delete from whatsapp.contacts where ${some('contacts')}`);
  // Below the cursor, at it, and beyond it: what a contact claims must not protect it.
  for (const version of ['1', 's.cursor', 's.cursor + 1000000']) {
    const done =
      await database.query(`update whatsapp.contacts c set display_name = 'forged', version = ${version}
      from whatsapp.sync_state s where c.person_id =
        (select min(person_id) from whatsapp.contacts where display_name is distinct from 'forged') returning 1`);
    expect(done).toHaveLength(1);
  }
}
const PLANTED = {
  message: { missing: 3, older: 2, different: 1 },
  conversation: { missing: 1, different: 2 },
  contact: { missing: 1, different: 3 },
};

test('what is whole is found whole: each record compared, nothing written', async () => {
  const before = await database.query('select max(xmin::text::bigint) as it from whatsapp.messages');
  const result = await check({ repair: true });
  expect(result).toMatchObject({ state: 'finished', ledger: [] });
  expect(drift(result)).toEqual({});
  expect(result.counts).toMatchObject({
    message: { checked: connection.messages.length },
    conversation: { checked: connection.conversations.length },
    contact: { checked: connection.people.length },
  });
  expect(await database.query('select max(xmin::text::bigint) as it from whatsapp.messages')).toEqual(before);
  expect(
    await database.query('select * from whatsapp.verifications order by verification_id desc limit 1'),
  ).toEqual([
    expect.objectContaining({ state: 'finished', cause: 'command', drift: '0', remaining: '0', error: null }),
  ]);
});

test('each kind of drift is found, and only that; repair mends all of it, once', async () => {
  await plant();
  const found = await check();
  expect(drift(found)).toEqual(PLANTED);
  // The deleted rows are missed by the counters, too, until they are set right.
  expect(found.ledger.map(({ code }) => code)).toEqual(Array(3).fill('counter_differs'));
  // Nothing was mended without being asked.
  const again = await check({ repair: true });
  expect(again.ledger).toEqual([]);
  expect(drift(again)).toEqual({
    message: { ...PLANTED.message, mended: 6 },
    conversation: { ...PLANTED.conversation, mended: 3 },
    contact: { ...PLANTED.contact, mended: 4 },
  });
  expect(sums(again.counts).remaining).toBe(0);
  expect(await agrees()).toBe(true);
  const after = await check();
  expect(drift(after)).toEqual({});
  // No row claims more than was replicated, so that later changes get through.
  expect(
    await database.query(`select from whatsapp.contacts c, whatsapp.sync_state s where c.version > s.cursor`),
  ).toEqual([]);
  const person = [...connection.people].sort((a, b) => (a.id < b.id ? -1 : 1))[2]!;
  connection.rename(person, 'Renamed');
  await settled();
});

test('what changes while it runs is no drift, and a repair overwrites none of it', async () => {
  simulator.stats.onRequest = ({ route }) => {
    // Between a list and its comparison, and before the lists are asked for.
    if (route !== 'sync') simulator.world.applyChanges(3);
  };
  for (const repair of [false, true]) {
    const result = await check({ repair });
    expect(result.state).toBe('finished');
    expect(drift(result)).toEqual({});
  }
  simulator.stats.onRequest = null;
  await settled();
});

test('what the upstream forgot is told, is no drift, and stays', async () => {
  const [{ count }] = (await database.query('select count(*) from whatsapp.messages')) as [{ count: string }];
  simulator.world.advance(10 * DAY);
  const gone = connection.messages.filter((message) => !connection.served(message)).length;
  expect(gone).toBeGreaterThan(50);
  const result = await check({ repair: true });
  expect(drift(result)).toEqual({ message: { not_served: gone } });
  expect(await database.query('select count(*) from whatsapp.messages')).toEqual([{ count }]);
});

test('what is quarantined is no drift; what was never put aside is, and repair puts it aside', async () => {
  const conversation = connection.conversations[0]!.id;
  const bad = (id: string) => (seq: bigint) =>
    `{"message_id":"${id}","conversation_id":"${conversation}","body":7,"seq":${seq}}`;
  connection.injectRaw('message', bad('bad-1'));
  connection.injectRaw('contact', '{"person_id":"bad-2","display_name":7}');
  // Mended, not refused (R10): the same mending makes it equal.
  connection.injectRaw(
    'message',
    (seq) =>
      `{"message_id":"mended","conversation_id":"${conversation}","body":"a\\u0000b","sent_at":"2026-11-01T00:00:00Z","seq":${seq}}`,
  );
  connection.injectRaw(
    'conversation',
    (seq) =>
      `{"conversation_id":"odd","participants":[{"participant_jid":"x@lid"},{"participant_jid":"y@lid","role":7}],"seq":${seq}}`,
  );
  const entries = () =>
    database.query('select record_id from whatsapp.quarantine where resolved_at is null order by 1');
  await waitFor(async () => (await entries()).length === 3, { what: 'three entries' });
  const found = drift(await check()) as Record<string, Record<string, number>>;
  delete found.message!.not_served;
  expect(found).toEqual({ message: { exempt: 1 }, contact: { exempt: 1 } });
  await database.query(`delete from whatsapp.quarantine where record_id in ('bad-1', 'y@lid')`);
  expect((await check({ repair: true })).counts.message).toMatchObject({ missing: 1, mended: 1 });
  expect(await entries()).toEqual([{ record_id: 'bad-1' }, { record_id: 'bad-2' }]);
  // Discarded by a person: it stays away.
  await database.query(`update whatsapp.quarantine set resolved_at = now(), resolution = 'discarded'`);
  expect(sums((await check({ repair: true })).counts).drift).toBe(0);
  expect(await entries()).toEqual([]);
});

test('an interrupted one goes on where it stopped, and counts nothing twice', async () => {
  await plant();
  const stop = new AbortController();
  const lists: string[] = [];
  let pages = 0;
  simulator.stats.onRequest = ({ route }) => {
    lists.push(route);
    if (route === 'messages' && ++pages === 4) stop.abort();
  };
  const order = { cause: 'schedule' as const, repair: false, resume: true };
  const first = await verify(context, ID, order, stop.signal);
  expect(first.state).toBe('interrupted');
  expect(lists).toContain('contacts');
  lists.length = 0;
  const { requests, state, counts } = await verify(context, ID, order, signal);
  expect(state).toBe('finished');
  expect(lists).not.toContain('contacts');
  expect(requests).toBeGreaterThan(first.requests);
  const { message, ...others } = drift({ counts }) as Record<string, Record<string, number>>;
  for (const found of [message!, ...Object.values(others)]) {
    delete found.not_served;
    delete found.exempt;
  }
  expect({ message, ...others }).toEqual(PLANTED);
  expect(counts.contact.checked).toBe(connection.people.length + 1);
  const rows = await database.query(`select state from whatsapp.verifications where cause = 'schedule'`);
  expect(rows).toEqual([{ state: 'finished' }]);
});

describe('failures', () => {
  test('that pass are tried again; one that does not is told, and kept', async () => {
    simulator.faults.script({ kind: 'answer', status: 503 }, 2, { route: 'contacts' });
    expect(await check()).toMatchObject({ state: 'finished' });
    simulator.faults.script({ kind: 'answer', status: 402 }, 1, { route: 'conversations' });
    const failed = await check();
    expect(failed).toMatchObject({ state: 'failed', error: { kind: 'payment_required' } });
    expect(failed.counts.message.checked).toBe(0);
    const [kept] = await database.query(
      'select * from whatsapp.verifications order by verification_id desc limit 1',
    );
    expect(kept).toMatchObject({ state: 'failed', error_kind: 'payment_required' });
    // One conversation that cannot be read costs no other.
    simulator.faults.script({ kind: 'answer', status: 404 }, 1, { route: 'messages' });
    const partly = await check();
    expect(partly).toMatchObject({ state: 'failed', error: { kind: 'not_found' } });
    expect(partly.error?.message).toBe('GET /v1/whatsapp/conversations/…/messages: HTTP 404');
    expect(partly.counts.message.checked).toBeGreaterThan(200);
  });
});

test('the command tells it, exits 1 while anything remains, 2 on wrong usage', async () => {
  await database.query(
    `delete from whatsapp.messages where ${some('messages', `sent_at > now() - interval '9 days'`)}`,
  );
  const [plain, offline, wrong, both] = await Promise.all([
    runCommand(['verify', '--since', '10d'], env()),
    runCommand(['verify', '--offline', '--json'], env()),
    runCommand(['verify', '--since', 'yesterday'], env()),
    runCommand(['verify', '--offline', '--repair'], env()),
  ]);
  expect(plain).toMatchObject({ status: 1, stdout: expect.stringContaining('messages: 1 missing') });
  expect(plain.stderr).toContain('1 difference, 1 problem in the ledger');
  expect(offline.status).toBe(1);
  expect(JSON.parse(offline.stdout)).toMatchObject({
    connections: [{ connection_id: ID, ledger: [{ code: 'counter_differs' }] }],
  });
  expect(wrong.status).toBe(2);
  expect(both).toMatchObject({ status: 2, stdout: '' });
  const mended = await runCommand(['verify', '--repair', '--json'], env());
  expect(mended).toMatchObject({ status: 0 });
  expect(JSON.parse(mended.stdout)).toMatchObject({
    remaining: 0,
    connections: [{ state: 'finished', mended: 1 }],
  });
  // That nothing is known to differ is no success.
  simulator.faults.script({ kind: 'answer', status: 402 }, 1, { route: 'conversations' });
  const failed = await runCommand(['verify', '--json'], env());
  expect(failed).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('1 of 1 connection could not be'),
  });
  expect(JSON.parse(failed.stdout)).toMatchObject({ remaining: 0, connections: [{ state: 'failed' }] });
});
