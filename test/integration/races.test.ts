import { type Kysely, sql } from 'kysely';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ErasureKey } from '../../src/lib/erasure-key.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { whileLinking } from '../../src/store/crm-links.ts';
import { openDatabase, poolUse } from '../../src/store/database.ts';
import { claimMedia, renewClaims } from '../../src/store/media-claims.ts';
import type { Database } from '../../src/store/schema.ts';
import { readPosition } from '../../src/store/state.ts';
import {
  emptyCounts,
  noteInterrupted,
  noteVerification,
  openVerification,
  type ResumeAt,
} from '../../src/store/verifications.ts';
import { apply } from '../../src/sync/apply.ts';
import { discard } from '../../src/sync/discard.ts';
import { pack } from '../../src/sync/packing.ts';
import { retryDeadLetter } from '../../src/sync/retry.ts';
import { parsePage } from '../../src/upstream/page.ts';
import { note } from '../../src/verify/note.ts';
import { SCHEMA, useFreshDatabase } from '../support/database.ts';
import { applyAnswer, bodyOf, CONNECTION, contextOf } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';

/* What one session does between another's look and its write. */

const database = useFreshDatabase({ migrated: true });
/** A session that is in the way of the others. */
let holder: pg.Client;
beforeEach(async () => {
  await ensureConnections(database.db, [CONNECTION]);
  holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  await holder.query('begin');
});
afterEach(async () => {
  await holder.end();
});

const blocked = (count: number) =>
  waitFor(
    async () =>
      (
        await database.query(`select from pg_stat_activity
          where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`)
      ).length >= count,
    { what: `${count} sessions to wait for a lock` },
  );

test('daemons that look at once do not lock each other out, whatever the order of their lists', async () => {
  await ensureConnections(database.db, ['a', 'm', 'z']);
  await holder.query(`select from whatsapp.connections where connection_id = 'm' for update`);
  const one = ensureConnections(database.db, ['a', 'm', 'z']);
  await blocked(1);
  const other = ensureConnections(database.db, ['z', 'm', 'a']);
  await blocked(2);
  await holder.query('commit');
  const settled = await Promise.allSettled([one, other]);
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
});

test('a page that waited for another writer knows what that has put aside', async () => {
  await holder.query('select from whatsapp.sync_state for update');
  await holder.query(
    `insert into whatsapp.quarantine (connection_id, kind, record_id, version, record_sha256)
      values ($1, 'message', 'm', 1, 'x')`,
    [CONNECTION],
  );
  await holder.query('update whatsapp.sync_state set beside_messages = beside_messages');
  const at = (await readPosition(database.db, CONNECTION))!;
  const message = { message_id: 'm', conversation_id: 'c', seq: 5 };
  const page = parsePage(bodyOf({ cursor: 5, messages: [message] }), at.cursor);
  const timing = { requestedAt: performance.now(), nextPollIn: () => 1000 };
  const written = apply(contextOf(database.db), CONNECTION, at, page, pack(page).changes, timing);
  await blocked(1);
  await holder.query('commit');
  expect(await written).toMatchObject({ done: true });
  expect(await database.query('select resolution from whatsapp.quarantine')).toEqual([
    { resolution: 'superseded' },
  ]);
});

describe('a poll is no later than its request, though it waited', () => {
  const poll = async (db: Kysely<Database>) => {
    const at = (await readPosition(database.db, CONNECTION))!;
    const page = parsePage(bodyOf({ cursor: 1 }), at.cursor);
    const timing = { requestedAt: performance.now(), nextPollIn: () => 1000 };
    return apply(contextOf(db), CONNECTION, at, page, pack(page).changes, timing);
  };
  const now = async () =>
    (await database.query<{ at: Date }>('select clock_timestamp() as at'))[0]!.at.getTime();
  const secondLater = async (since: number) =>
    await waitFor(async () => (await now()) > since + 1_000, { what: 'it to have waited' });
  const caughtUpAt = async () => {
    const [state] = await database.query<{ at: Date }>('select caught_up_at as at from whatsapp.sync_state');
    return state!.at.getTime();
  };
  beforeEach(() => applyAnswer(database.db, { cursor: 1, has_more: false }));

  test('for another writer', async () => {
    await holder.query('update whatsapp.sync_state set beside_messages = beside_messages');
    const polled = poll(database.db);
    await blocked(1);
    const waiting = await now();
    await secondLater(waiting);
    await holder.query('commit');
    expect(await polled).toMatchObject({ done: true });
    expect(await caughtUpAt()).toBeLessThan(waiting);
  });

  test('for a connection of the pool', async () => {
    const { url } = database;
    const options = { poolSize: 1, applicationName: 'test', onIdleError: () => {}, silenceTimeout: 60_000 };
    const db = openDatabase({ url, schema: SCHEMA, ...options });
    try {
      const free = Promise.withResolvers<void>();
      const busy = db.connection().execute(() => free.promise);
      await waitFor(() => poolUse(db).busy === 1, { what: 'the pool to be taken' });
      const polled = poll(db);
      await waitFor(() => poolUse(db).waiting === 1, { what: 'the poll to wait' });
      const waiting = await now();
      await secondLater(waiting);
      free.resolve();
      await busy;
      expect(await polled).toMatchObject({ done: true });
      expect(await caughtUpAt()).toBeLessThan(waiting);
    } finally {
      await db.destroy();
    }
  });
});

test('entries that are discarded and come again at once, in another order, do not lock each other out', async () => {
  const bad = (id: string) => ({ message_id: id, seq: 'none' });
  const page = (cursor: number, ids: readonly string[]) =>
    applyAnswer(database.db, { cursor, messages: ids.map(bad) });
  await page(1, ['a', 'b', 'c', 'd', 'e']);
  const entries = await database.query<{ id: string }>(
    'select record_id as id from whatsapp.quarantine order by record_sha256',
  );
  const ids = entries.map(({ id }) => id);
  await holder.query('select from whatsapp.quarantine where record_id = $1 for update', [ids[2]]);
  const discarded = discard(database.db, {});
  await blocked(1);
  const again = page(2, ids.toReversed());
  await blocked(2);
  await holder.query('commit');
  const settled = await Promise.allSettled([discarded, again]);
  expect(settled.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
});

test('an entry whose connection is renamed meanwhile is retried, and discarded, under its new id', async () => {
  const bad = (id: string) => ({ message_id: id, conversation_id: 'c', seq: 'none' });
  await applyAnswer(database.db, { cursor: 1, messages: [bad('a'), bad('b')] });
  const ids = await database.query<{ id: string }>(
    `select quarantine_id as id from whatsapp.quarantine order by record_id`,
  );
  const json = JSON.stringify({ message_id: 'a', conversation_id: 'c', seq: 1 });
  await database.query('update whatsapp.quarantine set record_json = $1 where quarantine_id = $2', [
    json,
    ids[0]!.id,
  ]);
  for (const table of ['connections', 'sync_state', 'quarantine'])
    await holder.query(`update whatsapp.${table} set connection_id = 'renamed'`);
  const retried = retryDeadLetter(database.db, ids[0]!.id, contextOf(database.db));
  const discarded = discard(database.db, { ids: [ids[1]!.id] });
  await blocked(2);
  await holder.query('commit');
  expect(await retried).toEqual({ applied: 'inserted' });
  expect(await discarded).toBe(1);
  expect(await database.query('select connection_id as id from whatsapp.messages')).toEqual([
    { id: 'renamed' },
  ]);
});

test('claims of attachments are renewed while somebody is about to take one of them away', async () => {
  const image = (id: string) => ({
    ...{ message_id: id, conversation_id: 'c', content_type: 'image', seq: 1 },
    sent_at: '2026-11-01T10:00:00Z',
  });
  await applyAnswer(database.db, { cursor: 1, messages: ['a', 'm', 'z'].map(image) }, { media: true });
  const rooms = [{ connectionId: CONNECTION, room: 9 }];
  const claims = await claimMedia(database.db, rooms, 9, 'newest', 'token', 60_000);
  await holder.query(`update whatsapp.media set claimed_by = null where message_id = 'm'`);
  await renewClaims(database.db, claims, 3_600_000);
  const renewed = await database.query(`select message_id as id from whatsapp.media
    where claimed_until > now() + interval '30 minutes' order by 1`);
  expect(renewed).toEqual([{ id: 'a' }, { id: 'z' }]);
});

test('what a worker says of a verification that another has gone on with is not kept', async () => {
  const order = { cause: 'schedule', repair: false, since: null } as const;
  const first = await openVerification(database.db, CONNECTION, order, true);
  const second = await openVerification(database.db, CONNECTION, order, true);
  expect(second.id).toBe(first.id);
  const counts = emptyCounts();
  counts.message.missing = 5;
  const rest = { requests: 1, ledgerProblems: 0 };
  const under = { ...rest, state: 'running', position: { stage: 'conversations' }, counts } as const;
  const notedAt = (await noteVerification(database.db, CONNECTION, second, under))!;
  const finished = { ...rest, state: 'finished', position: null, counts } as const;
  expect(await noteVerification(database.db, CONNECTION, { ...second, notedAt }, finished)).toBeDefined();
  const late = { ...under, counts: emptyCounts() };
  expect(await noteVerification(database.db, CONNECTION, first, late)).toBeUndefined();
  await noteInterrupted(database.db, CONNECTION, first, 9);
  expect(await database.query('select state, drift, position, requests from whatsapp.verifications')).toEqual(
    [{ state: 'finished', drift: '5', position: null, requests: '1' }],
  );
});

test('a verification keeps no place that an erasure forgets meanwhile, nor one that it cannot tell of', async () => {
  const { db } = database;
  const key = new ErasureKey('a key of the tests that nobody guesses');
  const order = { cause: 'schedule', repair: false, since: null } as const;
  let open = await openVerification(db, CONNECTION, order, true);
  const keep = async (at: Omit<ResumeAt, 'stage'>, under: ErasureKey | undefined = key) => {
    const position = { stage: 'messages', ...at } as const;
    const stands = {
      state: 'running',
      position,
      counts: emptyCounts(),
      requests: 1,
      ledgerProblems: 0,
    } as const;
    const forgetting = { key: under, retain: undefined };
    const notedAt = await note(
      { db, forgetting, maintenance: db, notePatience: 60_000 },
      CONNECTION,
      open,
      stands,
    );
    open = { ...open, notedAt: notedAt! };
    const [row] = await database.query('select position from whatsapp.verifications');
    return row!.position as unknown;
  };
  await holder.query('select from whatsapp.sync_state for update');
  await holder.query(`update whatsapp.sync_state set suppressed_by = '${key.fingerprint}'`);
  for (const name of ['chat of the erased', 'message of the erased']) {
    const values = [CONNECTION, key.hash(name)];
    await holder.query('insert into whatsapp.suppressions (connection_id, hash) values ($1, $2)', values);
  }
  const kept = keep({ conversation: 'chat of the erased' });
  await blocked(1);
  await holder.query('commit');
  expect(await kept).toBeNull();
  expect(await keep({ conversation: 'c', before: 'message of the erased' })).toBeNull();
  const place = { conversation: 'c', before: 'm' };
  expect(await keep(place)).toEqual({ stage: 'messages', ...place });
  expect(await keep(place, new ErasureKey('another key that nobody guesses'))).toBeNull();
});

test('one who links and is stopped holds nobody up for ever', async () => {
  const rest = await whileLinking(database.db, SCHEMA, false, async (trx) => {
    const { rows } = await sql<{ idle: string }>`
      select current_setting('idle_in_transaction_session_timeout') as idle`.execute(trx);
    return rows[0]!.idle;
  });
  expect(rest).toBe('5min');
});
