/** RETAIN_MESSAGES: what is too old goes, with all that hangs on it, and does not come back. */
import { Writable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { upkeepJobs } from '../../src/cli/jobs.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import type { WorkerJob } from '../../src/ops/upkeep.ts';
import { assemble } from '../../src/replica/replica.ts';
import { expireMessages } from '../../src/sync/retention.ts';
import { applyAnswer, CONNECTION, contextOf } from '../support/pages.ts';
import { quickSettings } from '../support/replica.ts';
import { BOB, database, db, message, OTHER, useDatabase } from './erasure-world.ts';

useDatabase();

const DAY = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * DAY).toISOString();
const RETAIN = 60 * DAY;
const forgetting = { key: undefined, retain: RETAIN };
const context = () => ({ db, limits: contextOf(db).limits, retain: RETAIN, changes: true });
const { signal } = new AbortController();
const messageIds = async () =>
  (await database.query<{ id: string }>('select message_id as id from whatsapp.messages order by 1')).map(
    ({ id }) => id,
  );

const page = (cursor: number, connection = CONNECTION, more = {}) =>
  applyAnswer(
    db,
    {
      cursor,
      messages: [
        message('m_old', { sent_at: ago(61), body: 'old', seq: cursor, reactions: { [BOB.phone]: '👍' } }),
        message('m_older', { sent_at: ago(70), is_from_me: true, seq: cursor }),
        message('m_ours', { sent_at: ago(70), is_from_me: null, direction: 'outgoing', seq: cursor }),
        message('m_young', { sent_at: ago(59), seq: cursor }),
        { message_id: 'm_partial', body: 'no time of its own', seq: cursor },
        message('m_bad', { sent_at: ago(61), body: 7, seq: cursor }),
      ],
    },
    more,
    connection,
  );

test('what is too old goes, a few at a time, and everything else stays', async () => {
  await page(10);
  await page(10, OTHER);
  await applyAnswer(db, {
    cursor: 11,
    messages: [message('m_old', { sent_at: ago(61), body: 'edited', seq: 11 })],
  });
  await database.query(
    `update whatsapp.messages set first_synced_at = now() - interval '61 days' where message_id = 'm_partial'`,
  );
  await database.query(
    `update whatsapp.quarantine set last_seen_at = now() - interval '61 days' where connection_id = $1`,
    [OTHER],
  );
  expect(await expireMessages(context(), signal, 1)).toBe(9);
  expect(await messageIds()).toEqual(['m_young', 'm_young']);
  for (const table of ['message_revisions', 'message_reactions']) {
    expect(await database.query(`select 1 from whatsapp.${table}`)).toEqual([]);
  }
  expect(await database.query('select connection_id from whatsapp.quarantine')).toEqual([
    { connection_id: CONNECTION },
  ]);
  expect(
    await database.query(`select n.messages_in, n.messages_out, n.first_message_at = m.sent_at as first, s.stored_messages
      from whatsapp.conversation_counts n join whatsapp.messages m using (connection_id)
      join whatsapp.sync_state s using (connection_id)`),
  ).toEqual(Array(2).fill({ messages_in: '1', messages_out: '0', first: true, stored_messages: '1' }));
  const gone = ['m_old', 'm_older', 'm_ours', 'm_partial'];
  expect(
    await database.query(
      `select record_id from whatsapp.changes where op = 'deleted' and kind = 'message' order by connection_id, 1`,
    ),
  ).toEqual([...gone, ...gone].map((record_id) => ({ record_id })));
  expect(await expireMessages(context(), signal)).toBe(0);
});

test('each goes by its own time, wherever there is nothing else to go', async () => {
  const undated = (id: string, days: number) => ({
    message_id: id,
    received_at: ago(days),
    body: id,
    seq: 10,
  });
  await applyAnswer(db, {
    cursor: 10,
    messages: [
      message('m_sent', { sent_at: ago(59), received_at: ago(61), seq: 10 }),
      undated('m_received', 59),
      undated('m_received_before', 61),
    ],
  });
  await database.query(`update whatsapp.messages set first_synced_at = now() - interval '61 days'
    where message_id <> 'm_received_before'`);
  await applyAnswer(
    db,
    { cursor: 10, contacts: [{ person_id: 7 }], messages: [message('m_bad', { body: 7 })] },
    {},
    OTHER,
  );
  await database.query(`update whatsapp.quarantine set last_seen_at = now() - interval '61 days'`);
  expect(await expireMessages(context(), signal)).toBe(2);
  expect(await messageIds()).toEqual(['m_received', 'm_sent']);
  expect(await database.query('select kind from whatsapp.quarantine')).toEqual([{ kind: 'contact' }]);
});

test('what comes again is not written, counted, or put aside', async () => {
  const { suppressed, tally, rejects } = await page(10, CONNECTION, { forgetting });
  expect(suppressed).toEqual({ erased: 0, expired: 4 });
  expect(tally.message).toMatchObject({ inserted: 2 });
  expect(rejects).toEqual([]);
  expect(await messageIds()).toEqual(['m_partial', 'm_young']);
  expect(await database.query('select stored_messages from whatsapp.sync_state')).toEqual([
    { stored_messages: '2' },
  ]);
});

test('a stopped one is interrupted between two of its transactions', async () => {
  await page(10);
  const stopped = new AbortController();
  stopped.abort();
  expect(await expireMessages(context(), stopped.signal, 1)).toBe(0);
  expect(await messageIds()).toHaveLength(5);
});

test('it may not be shorter than the memory of the upstream', () => {
  const env = { ...quickSettings('postgres://localhost/x', 'http://127.0.0.1:1'), RETENTION_WINDOW: '30d' };
  const load = (RETAIN_MESSAGES: string) =>
    loadSettings({ ...env, RETAIN_MESSAGES }, { database: true, upstream: true });
  expect(load('30d').settings.RETAIN_MESSAGES).toBe(30 * DAY);
  expect(() => load('29d')).toThrow('RETAIN_MESSAGES is shorter than RETENTION_WINDOW');
});

test('files that no store of this daemon has are told of: their rows are gone', async () => {
  await page(10);
  await database.query(
    `insert into whatsapp.media (connection_id, message_id, state, location) values ($1, 'm_old', 'stored', 'file:///earlier/x')`,
    [CONNECTION],
  );
  const env = { ...quickSettings(database.url, 'http://127.0.0.1:9'), RETAIN_MESSAGES: '60d' };
  const { settings } = loadSettings(env, { database: true, upstream: true });
  const replica = assemble({ settings, env, listen: () => {}, onIdleError: () => {} });
  let logged = '';
  const stream = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  const log = createLogger({ level: 'info', format: 'json', stream });
  const job = upkeepJobs(replica, log).find(({ name }) => name === 'retention') as WorkerJob;
  await job.run(signal);
  expect(logged).toContain('"files":1,"first":"file:///earlier/x","msg":"files of old messages are left"');
  expect(logged).toContain('"messages":3,"msg":"old messages deleted"');
  logged = '';
  await job.run(signal);
  expect(logged).toBe('');
  await replica.close();
  expect(await messageIds()).not.toContain('m_old');
});

test('a message is too old by both clocks or not at all: the database’s may be put forward', async () => {
  await page(10);
  const again = { cursor: 11, messages: [message('m_again', { sent_at: ago(70) })] };
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 30 * DAY });
  try {
    expect(await expireMessages(context(), signal)).toBe(0);
    expect((await applyAnswer(db, again, { forgetting })).suppressed).toMatchObject({ expired: 0 });
  } finally {
    vi.useRealTimers();
  }
  expect(await expireMessages(context(), signal)).toBeGreaterThan(0);
});
