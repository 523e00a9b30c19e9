/** Erasure (R20): whom and what an order is for, under which key, and what goes on beside it. */
import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { ErasureKey } from '../../src/lib/erasure-key.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { lockState } from '../../src/store/state.ts';
import { erase, foresee } from '../../src/sync/erase.ts';
import { ErasureRefused } from '../../src/sync/erase-order.ts';
import { dump, traces } from '../support/dump.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';
import {
  bring,
  contacts,
  database,
  db,
  direct,
  EVE,
  GROUP,
  HERS,
  KEY,
  message,
  messageIds,
  OTHER,
  ofEve,
  order,
  PHONE,
  page,
  replay,
  soon,
  useDatabase,
  world,
} from './erasure-world.ts';

useDatabase();

describe('scope', () => {
  test('with --connection, nothing of another is touched', async () => {
    await bring(world());
    await bring(world(), OTHER);
    const untouched = async () =>
      traces(await dump(database), [`${CONNECTION},`]).filter((row) => !row.startsWith('sync_state'));
    const before = await untouched();
    await erase(db, order({ connectionId: OTHER }));
    expect(await untouched()).toEqual(before);
    expect(traces(await dump(database), HERS).every((row) => before.includes(row))).toBe(true);
    const rows = await messageIds();
    expect(await replay(world())).toBe(0);
    expect(await messageIds()).toEqual(rows);
    expect(await replay(world(), OTHER)).toBe(9);
  });

  test('by the id of a person; one that means somebody else elsewhere wants the connection', async () => {
    await bring(world());
    await bring(
      page({
        contacts: [{ person_id: EVE.id, phone_jid: '4915100000009@s.whatsapp.net', display_name: 'Zoe' }],
      }),
      OTHER,
    );
    const by = (more = {}) => order({ who: { personId: EVE.id }, ...more });
    await expect(erase(db, by())).rejects.toThrow(
      /somebody else on each of conn_other, conn_test|conn_test, conn_other/,
    );
    await erase(db, by({ connectionId: CONNECTION }));
    expect(traces(await dump(database), ['Zoe']).length).toBeGreaterThan(0);
    expect(traces(await dump(database), HERS).every((row) => row.includes(OTHER))).toBe(true);
    // Found again by her id, of which there is a hash alone.
    await erase(db, by({ connectionId: CONNECTION }));
  });

  test('by an id that only a contact without a number has, or a chat without a JID', async () => {
    const conversations = [
      { conversation_id: 'cnv_ink', kind: 'direct', direct_person_id: 'per_ink', subject: 'Inka', seq: 1 },
    ];
    await bring(page({ contacts: [{ person_id: 'per_paper', display_name: 'Papa' }], conversations }));
    for (const personId of ['per_paper', 'per_ink']) await erase(db, order({ who: { personId } }));
    expect(traces(await dump(database), ['Papa', 'Inka', 'per_paper', 'per_ink'])).toEqual([]);
  });

  test('nobody like that: refused, and kept out only with --forever; the account itself: never', async () => {
    await bring(world());
    const who = { jid: '4915100000099@s.whatsapp.net' };
    await expect(erase(db, order({ who }))).rejects.toThrow(ErasureRefused);
    await expect(erase(db, order({ who: { personId: 'per_nobody' }, forever: true }))).rejects.toThrow(
      ErasureRefused,
    );
    await expect(foresee(db, order({ connectionId: 'conn_unknown' }))).rejects.toThrow(
      /no connection conn_unknown/,
    );
    await erase(db, order({ who, forever: true }));
    await bring(page({ messages: [message('m_unwanted', { sender_jid: who.jid, sent_at: soon() })] }));
    expect(await messageIds()).not.toContain('m_unwanted');
    await database.query(`update whatsapp.connections set jid = '${PHONE}:3@s.whatsapp.net'`);
    await expect(erase(db, order())).rejects.toThrow(/the account of conn_test itself/);
    expect(await database.query('select 1 from whatsapp.erasures')).toHaveLength(1);
  });

  test('what it foresees is what it does, and foreseeing changes nothing', async () => {
    await bring(world());
    // A reaction that goes with its message, beside the one to Bob's.
    await bring(page({ messages: [message('m_kept', { ...direct, reactions: { [EVE.phone]: '👍' } })] }));
    const before = await dump(database);
    const foreseen = await foresee(db, order());
    expect(await dump(database)).toEqual(before);
    const { counts } = await erase(db, order());
    expect(foreseen.counts).toEqual(counts);
  });
});

describe('the key', () => {
  const other = { key: new ErasureKey('another key of the tests, as good as it'), retain: undefined };
  test('without it, or with another, no page of any connection is written', async () => {
    await bring(world());
    await erase(db, order());
    for (const forgetting of [other, { key: undefined, retain: undefined }]) {
      const wrong = (connection: string) =>
        applyAnswer(db, page({ contacts: contacts() })[0]!, { forgetting }, connection);
      for (const connection of [CONNECTION, 'conn_later']) {
        await expect(wrong(connection)).rejects.toMatchObject({ kind: 'erasure_key' });
      }
    }
    expect(traces(await dump(database), HERS)).toEqual([]);
  });

  test('is one for all erasures, of two at once too', async () => {
    await bring(world());
    const ended = await Promise.allSettled(
      [KEY, other.key].map((key) => erase(db, order({ key, forever: true }))),
    );
    const refused = ended.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
    expect(refused).toEqual([expect.any(ErasureRefused)]);
    expect(await database.query('select distinct key_fingerprint from whatsapp.erasures')).toHaveLength(1);
  });

  test('is not in the database, and no hash is one that whoever has the database can make', async () => {
    await bring(world());
    await erase(db, order());
    const { createHash } = await import('node:crypto');
    const plain = [EVE.phone, `+${PHONE}`, PHONE, EVE.lid, EVE.id].flatMap((name) =>
      ['sha256', 'sha1', 'md5'].map((kind) => createHash(kind).update(name).digest('hex')),
    );
    expect(traces(await dump(database), [...plain, 'nobody guesses'])).toEqual([]);
    expect(KEY.hash(`+${PHONE}`)).toEqual(KEY.hash(EVE.phone));
  });
});

test('a page that waits for its end knows of it, and one that is being written is waited for', async () => {
  await bring(world());
  const waiting = async (n: number) =>
    (
      await database.query(
        `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      )
    ).length >= n;
  // A writer has the connection: the erasure waits for it, and sees what it wrote.
  let erasing: Promise<unknown> | undefined;
  let late: Promise<unknown> | undefined;
  await db.transaction().execute(async (trx) => {
    await lockState(trx, CONNECTION);
    erasing = erase(db, order());
    await waitFor(() => waiting(1), { what: 'the erasure to wait' });
    // And a page waits behind the erasure: its statement began before that was done.
    late = db.transaction().execute((other) => lockState(other, CONNECTION));
    await waitFor(() => waiting(2), { what: 'the page to wait' });
    await sql`insert into ${sql.table('messages')} (connection_id, message_id, sender_jid, chat_jid, body)
      values (${CONNECTION}, 'm_written', ${EVE.phone}, ${GROUP}, 'HERWORD')`.execute(trx);
  });
  const [, state] = await Promise.all([erasing, late]);
  expect(state).toMatchObject({ suppressedBy: KEY.fingerprint });
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('it waits for a lock that somebody else keeps only so long as the pages may wait for it', async () => {
  await bring(world());
  const before = await dump(database);
  await db.transaction().execute(async (trx) => {
    await sql`lock table ${sql.table('messages')} in share mode`.execute(trx);
    await expect(erase(db, order({ lockPatience: 50 }))).rejects.toMatchObject({ code: '55P03' });
    await db.transaction().execute((page) => lockState(page, CONNECTION));
  });
  expect(await dump(database)).toEqual(before);
});

test('a connection that is found meanwhile is begun after it', async () => {
  await bring(world());
  const waiting = (n: number) => async () =>
    (
      await database.query(
        `select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
      )
    ).length >= n;
  let erasing: Promise<unknown> | undefined;
  let found: Promise<unknown> | undefined;
  await db.transaction().execute(async (trx) => {
    await lockState(trx, CONNECTION);
    erasing = erase(db, order());
    await waitFor(waiting(1), { what: 'the erasure to wait' });
    found = ensureConnections(db, ['conn_found']);
    await waitFor(waiting(2), { what: 'the new connection to wait' });
  });
  await Promise.all([erasing, found]);
});

test('one that is repeated holds for what is known of the person as a hash alone, too', async () => {
  await bring(world());
  await erase(db, order());
  await database.query(`update whatsapp.erasures set erased_at = now() - interval '2 days'`);
  await database.query(`update whatsapp.suppressions set erased_at = now() - interval '2 days'`);
  await erase(db, order());
  // Of the time between the two, under a LID that the second did not know.
  const between = { ...ofEve, sender_jid: EVE.lid, sent_at: soon(-24 * 60) };
  expect(await bring(page({ messages: [message('m_between', between)] }))).toBe(1);
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('where Postgres ends it for a deadlock it is done once more, and not for ever', async () => {
  await bring(world());
  const ended = async (times: number) => {
    await database.query(`create sequence whatsapp.tries;
      create function whatsapp.deadlock() returns trigger language plpgsql as $$ begin
        if nextval('whatsapp.tries') <= ${times} then raise exception using errcode = '40P01'; end if;
        return new;
      end $$;
      create trigger deadlock before insert on whatsapp.erasures for each row execute function whatsapp.deadlock()`);
  };
  const again = () => database.query('drop function whatsapp.deadlock cascade; drop sequence whatsapp.tries');
  await ended(10);
  await expect(erase(db, order())).rejects.toMatchObject({ code: '40P01' });
  expect(await database.query('select last_value::integer as tries from whatsapp.tries')).toEqual([
    { tries: 3 },
  ]);
  expect(traces(await dump(database), HERS)).not.toEqual([]);
  await again();
  await ended(1);
  await erase(db, order());
  await again();
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(await database.query('select 1 from whatsapp.erasures')).toHaveLength(1);
});

test('consumers of the feed are told what to delete, by ids alone', async () => {
  await bring(world());
  await bring(world(), OTHER);
  await database.query(`select whatsapp.register_consumer('crm', 'now')`);
  await erase(db, order());
  const told = await database.query(
    `select kind, record_id, op, changed_fields from whatsapp.read_changes('crm', 100)`,
  );
  const change = (kind: string, record_id: string, op: string, field?: string) => ({
    kind,
    record_id,
    op,
    changed_fields: field ? [field] : null,
  });
  expect(told).toHaveLength(18);
  expect(told).toEqual(
    expect.arrayContaining([
      ...['m_in', 'm_out', 'm_group', 'm_lid'].map((id) => change('message', id, 'deleted')),
      change('message', 'm_bob', 'updated', 'reactions'),
      change('conversation', 'cnv_eve', 'deleted'),
      change('conversation', 'cnv_group', 'updated', 'participants'),
      change('conversation', 'cnv_group', 'updated', 'extra'),
      change('contact', EVE.id, 'deleted'),
    ]),
  );
  // Her id is in what is still to be told, and nowhere else.
  const hers = expect.stringMatching(/^changes: .*,contact,per_eve,deleted,/);
  expect(traces(await dump(database), HERS)).toEqual([hers, hers]);
});

test('the feed of a state row that somebody deleted goes on with its numbers', async () => {
  await bring(world());
  await database.query(`select whatsapp.register_consumer('crm', 'now')`);
  await database.query('update whatsapp.sync_state set last_change_no = 0');
  await erase(db, order());
  expect(
    await database.query(`select count(*) = max(change_no) as whole, max(change_no) = last_change_no as known
      from whatsapp.changes join whatsapp.sync_state using (connection_id) group by last_change_no`),
  ).toEqual([{ whole: true, known: true }]);
});
