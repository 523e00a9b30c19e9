import { describe, expect, test } from 'vitest';
import { CONTACT, MESSAGE } from '../../src/entities.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { type Retried, retryDeadLetter } from '../../src/sync/retry.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION, contextOf } from '../support/pages.ts';
import { Bench } from './raw-pages.ts';
import { refusal, useRefusal } from './refusal.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);
useRefusal(database);

let made = 0;
const newId = () => `id${++made}`;
const message = (message_id: string, seq: number, body: unknown, more: object = {}) => ({
  ...{ message_id, conversation_id: 'c', seq, body },
  ...more,
});
/** The one open entry of an id. */
const entryOf = async (id: string) =>
  (await bench.entries(`record_id = '${id}' and resolved_at is null`))[0]!;
const retry = async (id: string): Promise<Retried> =>
  await retryDeadLetter(bench.db, (await entryOf(id)).quarantine_id, contextOf(bench.db));
/** A message that comes good, and leaves the entries of its id open, as if they had come after it. */
async function bring(newer: object): Promise<void> {
  await bench.bring({ messages: [newer] });
  await bench.query(`update whatsapp.quarantine set resolved_at = null, resolution = null
    where resolved_at = (select max(resolved_at) from whatsapp.quarantine) and resolution = 'superseded'`);
}
const bodyOf = async (id: string) => (await bench.row(MESSAGE, id))?.body;
const how = async (id: string) =>
  (await bench.entries(`record_id = '${id}'`)).map(({ resolution, attempts }) => [resolution, attempts]);
async function numberAnew(): Promise<void> {
  await bench.db.transaction().execute(async (trx) => {
    await lockState(trx, CONNECTION);
    await startEpoch(trx, CONNECTION, 'reset', true);
  });
}
async function countersHold() {
  const [row] = await bench.query<{ kept: string; there: string }>(
    `select stored_messages as kept, (select count(*) from whatsapp.messages) as there from whatsapp.sync_state`,
  );
  expect(row!.kept).toBe(row!.there);
}

describe('retry applies what passes now, under the ordinary rules (R9)', () => {
  test('a new record', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 'refuse:22023', { media: { n: 9007199254740993n } })] });
    await refusal(database, 'off');
    expect(await retry(id)).toEqual({ applied: 'inserted' });
    expect(await bench.row(MESSAGE, id)).toMatchObject({ seq: 5n, media: { n: 9007199254740993n } });
    expect(await how(id)).toEqual([['retried', 1]]);
    await countersHold();
  });

  test('a newer one replaces, and what it replaces is kept', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 4, 'older')] });
    await bench.bring({ messages: [message(id, 5, 'refuse:22023')] });
    await refusal(database, 'off');
    expect(await retry(id)).toEqual({ applied: 'updated' });
    expect(
      await bench.query('select body from whatsapp.message_revisions where message_id = $1', id),
    ).toEqual([{ body: 'older' }]);
    await countersHold();
  });

  test('a newer row is not overwritten', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 'refuse:22023')] });
    await bring(message(id, 9, 'newer'));
    await refusal(database, 'off');
    expect(await retry(id)).toEqual({ applied: 'stale' });
    expect(await bodyOf(id)).toBe('newer');
    expect(await how(id)).toEqual([['retried', 1]]);
  });

  test('nor one of a newer numbering', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 500, 'refuse:22023')] });
    await numberAnew();
    await bring(message(id, 3, 'of the new numbering'));
    await refusal(database, 'off');
    expect(await retry(id)).toEqual({ applied: 'stale' });
    expect(await bench.row(MESSAGE, id)).toMatchObject({ body: 'of the new numbering', seq: 3n });
  });

  test('one without a version of its own has that of the last time it came, be it in a page that moved no cursor', async () => {
    const id = newId();
    const contacts = [{ person_id: id, display_name: 'refuse:22023' }];
    const { from } = await bench.bring({ contacts });
    await bench.bring({});
    await bench.bringAgain({ contacts });
    await refusal(database, 'off');
    expect(await entryOf(id)).toMatchObject({ cursor_from: `${from}`, attempts: 2 });
    expect(await retry(id)).toEqual({ applied: 'inserted' });
    expect(await bench.row(CONTACT, id)).toMatchObject({ version: bench.cursor });
  });

  test('what is refused still stays, counts up, and tells why', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 'refuse:22023')] });
    expect(await retry(id)).toMatchObject({ refused: '22023' });
    expect(await retry(id)).toMatchObject({ refused: '22023' });
    expect(await how(id)).toEqual([[null, 3]]);
    const other = newId();
    await bench.bring({ messages: [message(other, 5, 7)] });
    expect(await retry(other)).toEqual({ refused: 'type_mismatch', reason: '"body" is not a string' });
  });

  test('a failure of the database changes nothing', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 'refuse:22023 refuse:53100')] });
    await database.query(`create or replace function whatsapp.refuse_more() returns trigger language plpgsql as
      $$ begin raise exception 'full' using errcode = '53100'; end $$;
      create trigger a_full before insert on whatsapp.messages for each row execute function whatsapp.refuse_more()`);
    await expect(retry(id)).rejects.toMatchObject({ code: '53100' });
    await database.query('drop trigger a_full on whatsapp.messages');
    expect(await how(id)).toEqual([[null, 1]]);
  });

  test('resolved meanwhile: nothing is done', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 'refuse:22023')] });
    const { quarantine_id } = await entryOf(id);
    await bench.bring({ messages: [message(id, 6, 'good')] });
    await refusal(database, 'off');
    expect(await retryDeadLetter(bench.db, quarantine_id, contextOf(bench.db))).toEqual({
      gone: true,
    });
    expect(await bodyOf(id)).toBe('good');
  });

  test('an older entry of the same id is superseded by it', async () => {
    const id = newId();
    await bench.bring({ messages: [message(id, 5, 7), message(id, 6, 'refuse:22023'), message(id, 8, 8)] });
    await refusal(database, 'off');
    const [, passes] = await bench.entries(`record_id = '${id}' and version in (5, 6)`);
    await retryDeadLetter(bench.db, passes!.quarantine_id, contextOf(bench.db));
    const entries = await bench.entries(`record_id = '${id}'`);
    expect(new Map(entries.map((one) => [JSON.parse(one.bytes.toString()).seq, one.resolution]))).toEqual(
      new Map([
        [5, 'superseded'],
        [6, 'retried'],
        [8, null],
      ]),
    );
  });

  test('a conversation, of which a participant stays behind', async () => {
    const id = newId();
    const participants = [
      { participant_jid: 'a' },
      { participant_jid: 'b', role: made },
      { participant_jid: 'c', x: id },
    ];
    await bench.bring({
      conversations: [{ conversation_id: id, seq: 5, subject: 'refuse:22023', participants }],
    });
    await refusal(database, 'off');
    // Refused on its own account now, and the one with a number for a role as ever.
    await database.query(`create function whatsapp.refuse_c() returns trigger language plpgsql as
      $$ begin if new.participant_jid = 'c' then raise exception 'c' using errcode = '22023'; end if; return new; end $$;
      create trigger c before insert on whatsapp.conversation_participants for each row execute function whatsapp.refuse_c()`);
    expect(await retry(id)).toEqual({ applied: 'inserted' });
    await database.query('drop trigger c on whatsapp.conversation_participants');
    const stored =
      'select participant_jid from whatsapp.conversation_participants where conversation_id = $1';
    expect(await bench.query(stored, id)).toEqual([{ participant_jid: 'a' }]);
    expect(await bench.entries(`conversation_id = '${id}' and resolved_at is null`)).toMatchObject([
      { kind: 'participant', record_id: 'b', error_code: 'type_mismatch' },
      { kind: 'participant', record_id: 'c', error_code: '22023' },
    ]);
  });
});

describe('participants', () => {
  const bringMembers = (id: string, seq: number, participants: unknown) =>
    bench.bring({ conversations: [{ conversation_id: id, seq, participants }] });
  const members = (id: string) =>
    bench.query(
      'select participant_jid, role from whatsapp.conversation_participants where conversation_id = $1',
      id,
    );

  test('come into their conversation; one that is there stays as it is; a refused one stays refused', async () => {
    const id = newId();
    const jid = `${id}@lid`;
    await bringMembers(id, 5, [{ participant_jid: jid, role: 'refuse:22023' }]);
    expect(await retry(jid)).toMatchObject({ refused: '22023' });
    await refusal(database, 'off');
    expect(await retry(jid)).toEqual({ applied: 'inserted' });
    expect(await members(id)).toEqual([{ participant_jid: jid, role: 'refuse:22023' }]);
  });

  test('one that is refused in several chats comes into each, and is open until it is in all', async () => {
    const [first, second] = [newId(), newId()];
    const jid = `${first}@lid`;
    const entries = () =>
      bench.query(
        'select quarantine_id as id, conversation_id as chat, attempts, resolution from whatsapp.quarantine where record_id = $1 order by 1',
        jid,
      );
    const participants = [{ participant_jid: jid, role: 'refuse:22023' }];
    const both = (seq: number) =>
      [first, second].map((conversation_id) => ({ conversation_id, seq, participants }));
    await bench.bring({ conversations: both(5) });
    await bench.bring({ conversations: both(6) });
    const open = { attempts: 2, resolution: null };
    expect(await entries()).toMatchObject([
      { chat: first, ...open },
      { chat: second, ...open },
    ]);
    await bringMembers(second, 7, []);
    expect(await entries()).toMatchObject([
      { chat: first, ...open },
      { chat: second, resolution: 'superseded' },
    ]);
    await refusal(database, 'off');
    expect(await retry(jid)).toEqual({ applied: 'inserted' });
    expect(await members(first)).toEqual([{ participant_jid: jid, role: 'refuse:22023' }]);
  });

  test.each([
    ['version', 6, async () => {}],
    ['numbering', 3, numberAnew],
  ])('do not come back into a conversation that is there in a newer %s', async (_, seq, before) => {
    const id = newId();
    const jid = `${id}@lid`;
    await bringMembers(id, 5, [{ participant_jid: jid, role: 'refuse:22023' }]);
    await before();
    // This one does not tell its members, so it resolves nothing; whether the other is still one is not known.
    await bench.bring({ conversations: [{ conversation_id: id, seq }] });
    await refusal(database, 'off');
    expect(await retry(jid)).toEqual({ applied: 'stale' });
    expect(await members(id)).toEqual([]);
  });
});
