import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CONTACT, CONVERSATION, ENTITIES, type Entity, MESSAGE } from '../../src/entities.ts';
import type { Reject } from '../../src/model.ts';
import { startSimulator } from '../../src/simulator/server.ts';
import { readDeadLetter } from '../../src/store/dead-letters.ts';
import { quarantine } from '../../src/store/quarantine.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker } from '../support/worker.ts';
import { Bench, bytesOf, type Lists } from './raw-pages.ts';
import { refusal, refusals, useRefusal } from './refusal.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);
useRefusal(database);

const text = { message: 'body', conversation: 'subject', contact: 'display_name' } as const;
let made = 0;
/** A record of a kind with an id and a text; `refuse:22023` in it makes Postgres refuse it. */
function record(entity: Entity, body: string, more: object = {}): Record<string, unknown> & { id: string } {
  const id = `r${++made}`;
  const own = entity === CONTACT ? {} : { seq: made };
  return {
    ...{ [entity.key]: id, [text[entity.kind]]: body, id },
    ...own,
    conversation_id: 'c',
    ...more,
    [entity.key]: id,
  };
}
const message = (seq: number, body: string, more: object = {}) => ({
  ...{ message_id: 'm', conversation_id: 'c', seq, body },
  ...more,
});
const entriesOf = async (id: string) =>
  (await bench.entries(`record_id = '${id}'`)).map(({ error_code, attempts, resolution }) => [
    error_code,
    attempts,
    resolution,
  ]);

describe('records that only Postgres refuses: SQLSTATE class 22 and 54 (R9)', () => {
  test('are found by halving, alone, in pages of 500 with several of them in all kinds', async () => {
    const codes = ['22023', '22P02', '22003', '54000', '54001', '22021', '2200G'];
    const lists: Record<string, ReturnType<typeof record>[]> = {};
    const bad: [object, string][] = [];
    for (const entity of ENTITIES) {
      const records = Array.from({ length: 500 }, (_, index) => record(entity, `text ${index}`));
      // Some alone, some side by side, the first and the last one too.
      for (const [n, place] of [0, 1, 77, 250, 251, 252, 499].entries()) {
        const one = record(entity, `refuse:${codes[n]}`);
        records[place] = one;
        bad.push([one, codes[n]!]);
      }
      lists[entity.array] = records;
    }
    const { tally } = await bench.bring(lists);
    expect(Object.values(tally).map(({ inserted }) => inserted)).toEqual([493, 493, 493]);
    expect(await bench.storedCursor()).toBe(bench.cursor);
    for (const entity of ENTITIES) {
      const stored = await bench.query<{ id: string }>(
        `select ${entity.key} as id from whatsapp.${entity.table} where ${entity.key} = any($1)`,
        lists[entity.array]!.map(({ id }) => id),
      );
      const good = lists[entity.array]!.filter((one) => !bad.some(([other]) => other === one));
      expect(new Set(stored.map(({ id }) => id))).toEqual(new Set(good.map(({ id }) => id)));
    }
    const entries = await bench.putAside();
    expect(new Map(entries.map((entry) => [entry.bytes.toString(), entry.error_code]))).toEqual(
      new Map(bad.map(([one, code]) => [bytesOf(one).toString(), code])),
    );
    expect(entries).toHaveLength(bad.length);
    for (const { bytes, record_sha256 } of entries)
      expect(record_sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
  });

  test.each(['1e400000', '-1e131072', '1e-400000'])(
    'a number that jsonb does not hold: %s',
    async (number) => {
      const media = `{"message_id":"n${number}","conversation_id":"c","seq":1,"media":{"deep":[{"n":${number}}]}}`;
      const unknown = `{"person_id":"n${number}","unknown":${number}}`;
      await bench.bring({
        messages: [record(MESSAGE, 'x'), media],
        contacts: [unknown, record(CONTACT, 'x')],
      });
      expect(await bench.putAside()).toMatchObject([
        { kind: 'contact', error_code: '22003', bytes: Buffer.from(unknown) },
        { kind: 'message', error_code: '22003', bytes: Buffer.from(media) },
      ]);
    },
  );

  test('participants: without their conversation and without each other', async () => {
    const members = [
      '{"participant_jid":"a@lid","role":"admin"}',
      '{"participant_jid":"b@lid","x":1}',
      '{ "participant_jid" : "b@lid", "x":1e400000 }',
      '{"participant_jid":"c@lid","role":"refuse:22023"}',
      '{"participant_jid":"d@lid","role":5}',
    ];
    const one = `{"conversation_id":"members","seq":7,"subject":"s","participants":[${members.join()}]}`;
    await bench.bring({ conversations: [record(CONVERSATION, 'x'), one, record(CONVERSATION, 'y')] });
    expect(await bench.row(CONVERSATION, 'members')).toMatchObject({ subject: 's', seq: 7n });
    expect(
      await bench.query(
        `select participant_jid from whatsapp.conversation_participants where conversation_id = 'members'`,
      ),
    ).toEqual([{ participant_jid: 'a@lid' }]);
    const entries = await bench.putAside();
    expect(
      new Map(
        entries.map(({ kind, conversation_id, error_code, bytes }) => [
          bytes.toString(),
          [kind, conversation_id, error_code],
        ]),
      ),
    ).toEqual(
      new Map([
        [members[4], ['participant', 'members', 'type_mismatch']],
        [members[2], ['participant', 'members', '22003']],
        [members[3], ['participant', 'members', '22023']],
      ]),
    );
  });

  test('a conversation that is refused for its own sake, with all its participants', async () => {
    const one = record(CONVERSATION, 'refuse:22023', { participants: [{ participant_jid: 'a' }] });
    await bench.bring({ conversations: [one] });
    expect(await bench.putAside()).toMatchObject([{ kind: 'conversation', bytes: bytesOf(one) }]);
    expect(await bench.row(CONVERSATION, one.id)).toBeUndefined();
  });

  test.each([
    ['the last of two equals', ['good', 'refuse:22023'], 'good', 1],
    ['the first of two equals, which the last replaces', ['refuse:22023', 'good'], 'good', 0],
    [
      'the first of three, in whose middle is a good one',
      ['refuse:22023', 'good', 'refuse:22003'],
      'good',
      2,
    ],
  ])('%s of one seq', async (_, bodies, body, refused) => {
    const id = `equals${++made}`;
    const came = bodies.map((one, place) => message(5, one, { message_id: id, place }));
    await bench.bring({ messages: [...came, { message_id: id, seq: 5, status: 'read' }] });
    expect(await bench.row(MESSAGE, id)).toMatchObject({ body, status: 'read' });
    expect(await bench.putAside()).toHaveLength(refused);
  });
});

test('equals of which one is refused are written before the newer one, which replaces them', async () => {
  const id = `equals${++made}`;
  const came = [message(5, 'good'), message(5, 'refuse:22023'), message(6, 'newer')];
  await bench.bring({ messages: came.map((one) => ({ ...one, message_id: id })) });
  expect(await bench.query('select body from whatsapp.message_revisions where message_id = $1', id)).toEqual([
    { body: 'good' },
  ]);
});

describe('every other SQLSTATE is a failure of the database, never blamed on a record (R9)', () => {
  const books = () =>
    bench.query(`select (select cursor from whatsapp.sync_state where connection_id = 'conn_test') as cursor,
      (select count(*) from whatsapp.quarantine) as aside, (select count(*) from whatsapp.sync_pages) as pages,
      (select count(*) from whatsapp.messages) as messages`);

  test.each(['23514', '23505', '25006', '40001', '42501', '53100', '55P03', '57014', 'P0001', 'XX000'])(
    '%s: nothing is written, and the page is written once that is over',
    async (code) => {
      await bench.bring({ messages: [record(MESSAGE, 'before')] });
      const before = await books();
      // Beside a record that is refused by right, since halving must not hide it.
      const lists: Lists = {
        messages: [record(MESSAGE, 'x'), record(MESSAGE, `refuse:${code}`), record(MESSAGE, 'refuse:22023')],
      };
      await refusals(database);
      await expect(bench.bring(lists)).rejects.toMatchObject({ code });
      // Not by halving, which is for the data.
      expect(await refusals(database)).toBe(1);
      expect(await books()).toEqual(before);
      await refusal(database, 'off');
      const { tally } = await bench.bringAgain(lists);
      expect(tally.message.inserted).toBe(3);
      expect(await bench.putAside()).toEqual([]);
    },
  );

  test('the daemon tries the page again until the database takes it', async () => {
    const simulator = await startSimulator({ messages: 50, connections: ['full_disk'] });
    const connection = simulator.world.connection('full_disk');
    connection.injectRaw(
      'message',
      (seq) => `{"message_id":"m","conversation_id":"c","seq":${seq},"body":"refuse:53100"}`,
    );
    const [conversation] = connection.conversations;
    for (let more = 0; more < 20; more++) connection.addMessage({ conversation: conversation! });
    // There is room for four answers: each gives its own back, written or not.
    const limits = { PAGE_LIMIT: '10', PAGE_LIMIT_MAX: '10', MAX_RESPONSE_BYTES: '64KiB' };
    const env = { ...quickSettings(database.url, simulator.url), ...limits };
    const worker = await startWorker(env, { discovers: false });
    try {
      // Those of other tests are known to the database, and not to the upstream.
      const failed = () =>
        worker.events
          .filter((event) => event.type === 'failed')
          .filter(({ connectionId }) => connectionId === connection.id);
      await waitFor(() => failed().length >= 8, { what: 'eight failures' });
      for (const { error } of failed()) expect([error.kind, error.code]).toEqual(['database', '53100']);
      expect(await bench.query(`select from whatsapp.messages where message_id = 'm'`)).toEqual([]);
      await refusal(database, 'off');
      await waitFor(() => worker.told('caught_up').includes(connection.id), {
        what: 'the end of the backlog',
      });
    } finally {
      await worker.stop();
      await simulator.close();
    }
    expect(await bench.query(`select from whatsapp.messages where connection_id = 'full_disk'`)).toHaveLength(
      71,
    );
    expect(await bench.query(`select from whatsapp.quarantine where connection_id = 'full_disk'`)).toEqual(
      [],
    );
  });
});

describe('an open entry is unique by connection, kind and hash', () => {
  test('seen again, in one page and in others, it counts up and tells of the last time', async () => {
    const bad = { ...record(MESSAGE, 'refuse:22023'), message_id: 'count' };
    await bench.bring({ messages: [bad, bad] });
    const [first] = await bench.entries(`record_id = 'count'`);
    expect(first).toMatchObject({ attempts: 2, error_code: '22023', cursor_to: bench.cursor.toString() });
    await bench.bring({ messages: [bad, bad, record(MESSAGE, 'good'), bad] });
    const [again, none] = await bench.entries(`record_id = 'count'`);
    expect(none).toBeUndefined();
    expect(again).toMatchObject({
      ...first,
      attempts: 5,
      cursor_from: first!.cursor_to,
      cursor_to: bench.cursor.toString(),
      last_seen_at: expect.anything(),
    });
    expect(again!.last_seen_at > first!.last_seen_at).toBe(true);
  });

  test('other bytes, another kind: another entry', async () => {
    await bench.bring({ messages: ['[1]', '[ 1]'], contacts: ['[1]'], conversations: ['[1]'] });
    expect(await bench.putAside()).toHaveLength(4);
  });

  test('one that was resolved is opened anew', async () => {
    const bad = message(1, 'refuse:22023', { message_id: 'anew' });
    await bench.bring({ messages: [bad] });
    await bench.bring({ messages: [message(1, 'good', { message_id: 'anew' })] });
    await bench.bring({ messages: [bad] });
    expect(await entriesOf('anew')).toEqual([
      ['22023', 1, 'superseded'],
      ['22023', 1, null],
    ]);
  });

  test('the same bytes in two versions of one page have the newer one, whichever comes first', async () => {
    const origin = { connectionId: CONNECTION, numbering: 1, from: 0n, to: 99n };
    for (const [place, versions] of [
      ['5', '9'],
      ['9', '5'],
    ].entries()) {
      const rejects = versions.map((version): Reject => {
        const json = Buffer.from(`{"participant_jid":${place}}`);
        return { kind: 'participant', recordId: `twice ${place}`, version, json, code: 'x', reason: 'x' };
      });
      await quarantine(database.db, rejects, origin);
    }
    const twice = await bench.entries(`record_id like 'twice %'`);
    expect(twice).toMatchObject(Array(2).fill({ version: '9', attempts: 2 }));
  });

  test('bytes that are no UTF-8 are kept as they came', async () => {
    const json = Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]);
    const reject: Reject = { kind: 'message', recordId: 'no UTF-8', json, code: 'x', reason: 'x' };
    await quarantine(database.db, [reject], { connectionId: CONNECTION, numbering: 1, from: 0n, to: 99n });
    const [entry] = await bench.entries(`record_id = 'no UTF-8'`);
    expect((await readDeadLetter(database.db, entry!.quarantine_id))!.json.equals(json)).toBe(true);
  });
});
