import { type Kysely, sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { ErasureKey } from '../../src/lib/erasure-key.ts';
import { openDatabase } from '../../src/store/database.ts';
import type { Database } from '../../src/store/schema.ts';
import { createTestDatabase, SCHEMA, type TestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer, CONNECTION } from '../support/pages.ts';

/* Which plans a session keeps, and that a plan that is kept reads no more when tables grow. */

let database: TestDatabase;
let db: Kysely<Database>;
let cursor = 0;
beforeEach(async () => {
  database = await createTestDatabase({ migrated: true });
  db = open();
  cursor = 0;
});
afterEach(async () => {
  await db.destroy();
  await database.drop();
});

/** With one session, so that what it has prepared can be asked for. */
function open(): Kysely<Database> {
  const applicationName = 'wa-replica plans';
  return openDatabase({
    url: database.url,
    schema: SCHEMA,
    poolSize: 1,
    applicationName,
    onIdleError: () => {},
  });
}

const page = (lists: Omit<Answer, 'cursor'> = {}) => applyAnswer(db, { cursor: ++cursor, ...lists });
const JID = '491701234567@s.whatsapp.net';
const message = (id: string, fields: Record<string, unknown> = {}) => ({
  message_id: id,
  conversation_id: 'c1',
  chat_jid: JID,
  sender_jid: JID,
  sent_at: '2026-11-01T10:00:00Z',
  body: 'a',
  seq: cursor + 1,
  ...fields,
});
/** Pages that make the session give names to their statements. */
const pages = async (
  count: number,
  lists: () => Omit<Answer, 'cursor'> = () => ({ messages: [message(`m${cursor}`)] }),
) => {
  for (let n = 0; n < count; n++) await page(lists());
};

/** How often the session used kept plans of statements that write messages. */
async function kept(): Promise<number> {
  const { rows } = await sql<{ kept: number }>`
    select coalesce(sum(generic_plans), 0)::integer as kept from pg_prepared_statements
    where statement like '%insert into "whatsapp"."messages"%'`.execute(db);
  return rows[0]!.kept;
}

/** Messages of other connections, which make the table large. */
const fill = () =>
  database.query(`insert into whatsapp.messages (connection_id, message_id, body, seq, numbering)
    select 'other ' || n % 7, n::text, repeat('x', 1800), n, 1 from generate_series(1, 6000) n`);

describe('plans', () => {
  test('are made anew while the table of messages is small', async () => {
    await pages(6);
    expect(await kept()).toBe(0);
  });

  test('are kept once it is large', async () => {
    await fill();
    await pages(6);
    expect(await kept()).toBeGreaterThan(2);
  });

  test('of pages with conversations are made anew', async () => {
    await fill();
    await pages(6, () => ({
      messages: [message(`m${cursor}`)],
      conversations: [{ conversation_id: 'c1', seq: cursor + 1 }],
    }));
    expect(await kept()).toBe(0);
  });

  test('are made anew where a record was put aside', async () => {
    await fill();
    await page({ messages: [message('wrong', { sent_at: 'never' })] });
    await pages(6);
    expect(await kept()).toBe(0);
  });

  test('are made anew once somebody was erased', async () => {
    await fill();
    const key = new ErasureKey('k'.repeat(32));
    const erased = { forgetting: { key, retain: undefined } };
    await database.query(
      `insert into whatsapp.erasures (connection_id, key_fingerprint, forever) values ('', $1, false)`,
      [key.fingerprint],
    );
    for (let n = 0; n < 6; n++) {
      await applyAnswer(db, { cursor: ++cursor, messages: [message(`m${cursor}`)] }, erased);
    }
    expect(await kept()).toBe(0);
  });

  test('that were made while other tables were empty read no more of them later', async () => {
    await fill();
    await pages(6, () => ({ messages: [message(`m${cursor}`, { reactions: { [JID]: '👍' } })] }));
    await database.query(`truncate whatsapp.message_reactions, whatsapp.jids, whatsapp.conversation_counts`);
    // Planned on empty tables.
    await pages(2);
    const before = await kept();
    await database.query(`
      insert into whatsapp.message_reactions (connection_id, message_id, reactor_jid, emoji)
        select '${CONNECTION}', 'm' || n, '${JID}', '👍' from generate_series(1, 3000) n on conflict do nothing;
      insert into whatsapp.jids (connection_id, jid) select '${CONNECTION}', n || '@lid' from generate_series(1, 3000) n;
      insert into whatsapp.conversation_counts (connection_id, conversation_id, messages_in, messages_out)
        select '${CONNECTION}', 'c' || n, 1, 0 from generate_series(2, 3000) n;
      insert into whatsapp.messages (connection_id, message_id, body, seq, numbering)
        select '${CONNECTION}', 'x' || n, 'a', 1, 1 from generate_series(1, 3000) n`);
    const readBefore = await readRows();
    // Reactions that are taken back, of a message that has some.
    await page({ messages: [message('m1', { reactions: {} }), message('new')] });
    expect(await kept()).toBe(before + 1);
    expect(await database.query(`select from whatsapp.message_reactions where message_id = 'm1'`)).toEqual(
      [],
    );
    expect((await readRows()) - readBefore).toBeLessThan(100);
  });

  test('are forgotten after a minute', async () => {
    await database.query(`
      create table public.growing (id integer primary key) with (autovacuum_enabled = off);
      analyze public.growing`);
    const read = () =>
      db.transaction().execute(async (trx) => {
        await sql`select set_config('plan_cache_mode', 'force_generic_plan', true)`.execute(trx);
        return await sql`select from public.growing where id = ${7}::integer`.execute(trx);
      });
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    for (let time = 0; time < 4; time++) await read();
    await database.query('insert into public.growing select generate_series(1, 20000)');
    const before = await readRows('growing');
    await read();
    const whole = await readRows('growing');
    expect(whole - before).toBe(20_000);
    vi.advanceTimersByTime(60_000);
    await read();
    expect((await readRows('growing')) - whole).toBeLessThan(10);
  });
});

/** Rows that were read so far, from tables and by indexes. */
async function readRows(table = '%'): Promise<number> {
  // What a session counts is told when it rests, or ends.
  await sql`select pg_stat_force_next_flush()`.execute(db);
  await sql`select 1`.execute(db);
  const rows = await database.query<{ rows: number }>(
    `select (coalesce(sum(seq_tup_read), 0) + coalesce((select sum(idx_tup_read) from pg_stat_user_indexes
        where relname like $1), 0))::integer as rows
      from pg_stat_user_tables where relname like $1`,
    [table],
  );
  return rows[0]!.rows;
}
