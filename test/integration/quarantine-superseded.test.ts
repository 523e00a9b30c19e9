import { describe, expect, test } from 'vitest';
import { ensureConnections } from '../../src/store/connections.ts';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';
import { Bench, type Source } from './raw-pages.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);

let made = 0;
const newId = (length = 8) => `id${++made}-`.padEnd(length, 'x');
const bad = (id: string, seq: number | undefined) => ({
  message_id: id,
  conversation_id: 'c',
  seq,
  body: ++made,
});
const good = (id: string, seq: number | undefined, fields: object = {}) => ({
  ...{ message_id: id, conversation_id: 'c', seq, body: 'good' },
  ...fields,
});
/** How the entries of the messages that came so far stand: by the id in their JSON. */
async function resolutions(id: string): Promise<(string | null)[]> {
  const entries = await bench.entries(`kind = 'message'`);
  return entries
    .filter(({ bytes }) => (JSON.parse(bytes.toString()) as { message_id: string }).message_id === id)
    .map(({ resolution }) => resolution);
}

describe('an open entry is superseded by a good record of its id in an equal or newer version (R9)', () => {
  test.each([
    ['the same seq', 5, 5, 'superseded'],
    ['a newer one', 5, 6, 'superseded'],
    ['an older one', 5, 4, null],
    ['one without a seq: the cursor is its version', 5, undefined, 'superseded'],
    ['of one without a seq: a lower one', undefined, 5, null],
  ] as const)('%s', async (_, refused, came, resolution) => {
    const id = newId();
    await bench.bring({ messages: [bad(id, refused)] });
    await bench.bring({ messages: [good(id, came)] });
    expect(await resolutions(id)).toEqual([resolution]);
    const [entry] = await bench.entries(`record_id = '${id}'`);
    expect((entry as unknown as { resolved_at: Date | null }).resolved_at === null).toBe(resolution === null);
  });

  test('not one that was resolved otherwise before', async () => {
    const id = newId();
    await bench.bring({ messages: [bad(id, 5), bad(newId(), 5)] });
    await bench.query(
      `update whatsapp.quarantine set resolved_at = now(), resolution = 'discarded' where record_id = $1`,
      id,
    );
    await bench.bring({ messages: [good(id, 5)] });
    expect(await resolutions(id)).toEqual(['discarded']);
  });

  test('of several, those that are not newer', async () => {
    const id = newId();
    await bench.bring({ messages: [bad(id, 5), bad(id, 7), bad(id, 9)] });
    await bench.bring({ messages: [good(id, 7)] });
    expect(await resolutions(id)).toEqual(['superseded', 'superseded', null]);
  });

  test('one that is there already in a newer version resolves too: it came, and it is good', async () => {
    const id = newId();
    await bench.bring({ messages: [good(id, 9)] });
    await bench.bring({ messages: [bad(id, 5)] });
    await bench.bring({ messages: [good(id, 6)] });
    expect(await resolutions(id)).toEqual(['superseded']);
    expect(await bench.query('select seq from whatsapp.messages where message_id = $1', id)).toEqual([
      { seq: '9' },
    ]);
  });

  test('a partial record does not: the text that was refused is still missing', async () => {
    const id = newId();
    await bench.bring({ messages: [bad(id, 5)] });
    await bench.bring({ messages: [{ message_id: id, seq: 6, status: 'read' }] });
    expect(await resolutions(id)).toEqual([null]);
  });

  test('so it is in a page of which Postgres refuses something', async () => {
    const [whole, partial, chat] = [newId(), newId(), newId()];
    await bench.bring({
      messages: [bad(whole, 5), bad(partial, 5)],
      conversations: [{ conversation_id: chat, seq: 5, subject: 5 }],
    });
    const members = '[{"participant_jid":"a","x":1e400000}]';
    await bench.bring({
      messages: [
        good(whole, 6),
        { message_id: partial, seq: 6, status: 'read' },
        `{"message_id":"${newId()}","conversation_id":"c","seq":1,"media":{"n":1e400000}}`,
      ],
      conversations: [`{"conversation_id":"${chat}","seq":6,"participants":${members}}`],
    });
    expect(await bench.putAside()).toHaveLength(2);
    expect([await resolutions(whole), await resolutions(partial)]).toEqual([['superseded'], [null]]);
    expect(await bench.entries(`record_id = '${chat}'`)).toMatchObject([{ resolution: 'superseded' }]);
  });

  test('nor a record of another id, kind or connection', async () => {
    const id = newId();
    await bench.bring({ messages: [bad(id, 5)] });
    await bench.bring({
      messages: [good(`${id}x`, 9), good(id.toUpperCase(), 9)],
      conversations: [{ conversation_id: id, seq: 9 }],
      contacts: [{ person_id: id }],
    });
    expect(await resolutions(id)).toEqual([null]);
    await ensureConnections(bench.db, ['other']);
    await bench.query(`insert into whatsapp.quarantine (connection_id, kind, record_id, record_sha256)
      values ('other', 'message', '${id}', 'x')`);
    await bench.bring({ messages: [good(id, 9)] });
    expect(
      await bench.query(`select resolution from whatsapp.quarantine where connection_id = 'other'`),
    ).toEqual([{ resolution: null }]);
  });

  test('a contact by the cursor of its answer', async () => {
    const id = newId();
    const entry = async () =>
      (await bench.entries(`kind = 'contact' and record_id = '${id}'`))[0]!.resolution;
    await bench.bring({ contacts: [{ person_id: id, company: 5 }] });
    expect(await entry()).toBeNull();
    await bench.bring({ contacts: [{ person_id: id, company: 'good' }] });
    expect(await entry()).toBe('superseded');
  });

  test('by the numbering first', async () => {
    const id = newId();
    await bench.bring({ messages: [bad(id, 500)] });
    await bench.db.transaction().execute(async (trx) => {
      await lockState(trx, CONNECTION);
      await startEpoch(trx, CONNECTION, 'reset', true);
    });
    await bench.bring({ messages: [good(id, 3)] });
    expect(await resolutions(id)).toEqual(['superseded']);
  });
});

describe('ids longer than the 200 bytes that are kept of them', () => {
  test.each([
    ['of one-byte characters', 'a'.repeat(196), 'b'.repeat(300)],
    ['of four-byte characters', '😀'.repeat(49), '😀'.repeat(100)],
    ['whose cut falls within a character', 'é'.repeat(99), '漢'.repeat(60)],
    ['of 200 bytes: the other is cut to it', 'z'.repeat(200 - 6), 'z'.repeat(100)],
  ])('%s: its own resolves it, another with the same beginning does not', async (_, prefix, rest) => {
    const start = `${++made}`.padStart(6, '0') + prefix;
    const [id, other, beginning] = [`${start}${rest}1`, `${start}${rest}2`, cut(`${start}${rest}1`)];
    await bench.bring({ messages: [bad(id, 5)] });
    expect((await bench.putAside())[0]!.record_id).toBe(beginning);
    await bench.bring({ messages: [good(other, 9), good(beginning, 9)] });
    expect(await resolutions(id)).toEqual([null]);
    await bench.bring({ messages: [good(id, 4)] });
    expect(await resolutions(id)).toEqual([null]);
    await bench.bring({ messages: [good(id, 5)] });
    expect(await resolutions(id)).toEqual(['superseded']);
  });

  test('mended ones', async () => {
    const id = `${newId()}${'\\u0000'.repeat(100)}`;
    const text = (body: string): Source =>
      `{"message_id":"${id}","conversation_id":"c","seq":5,"body":${body}}`;
    await bench.bring({ messages: [text('5')] });
    await bench.bring({ messages: [text('"good"')] });
    expect(
      (await bench.entries(`cursor_to = ${bench.cursor - 100n}`)).map((entry) => entry.resolution),
    ).toEqual(['superseded']);
  });

  /** The beginning of up to 200 bytes, in whole characters. */
  function cut(id: string): string {
    let kept = '';
    for (const character of id) {
      if (Buffer.byteLength(kept + character) > 200) break;
      kept += character;
    }
    return kept;
  }
});

describe('participants are resolved by a membership that came good', () => {
  const conversation = (id: string, seq: number, participants?: unknown) => ({
    conversation_id: id,
    seq,
    participants,
  });
  const broken = { participant_jid: 'a@lid', role: 5 };
  const entries = async (id: string) =>
    (await bench.entries(`conversation_id = '${id}'`)).map(({ resolution }) => resolution);

  test.each([
    ['a newer one', 6, [], 'superseded'],
    ['another at the same seq', 5, [{ participant_jid: 'a@lid' }], 'superseded'],
    ['an older one', 4, [], null],
    ['a conversation that does not tell it', 6, undefined, null],
    ['one in which it is bad again', 6, [broken], null],
    ['one in which it is bad in another way', 6, [{ ...broken, role: 6 }], 'superseded'],
  ])('%s', async (_, seq, participants, resolution) => {
    const id = newId();
    // Other bytes for each case: an open entry is unique by them.
    const own = { ...broken, case: id };
    const again = participants?.map((one) => ('role' in one ? { ...one, case: id } : one));
    await bench.bring({ conversations: [conversation(id, 5, [own])] });
    await bench.bring({ conversations: [conversation(id, seq, again)] });
    expect((await entries(id))[0]).toBe(resolution);
  });

  test('in the same page: by the newer one alone, whatever their order', async () => {
    const [first, second] = [newId(), newId()];
    const own = (id: string) => [{ ...broken, case: id }];
    await bench.bring({
      conversations: [
        ...[conversation(first, 6, []), conversation(first, 5, own(first))],
        ...[conversation(second, 5, []), conversation(second, 6, own(second))],
      ],
    });
    expect([await entries(first), await entries(second)]).toEqual([['superseded'], [null]]);
  });
});
