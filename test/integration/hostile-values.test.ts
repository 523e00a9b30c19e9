import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { CONVERSATION, ENTITIES, MESSAGE } from '../../src/entities.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';
import { Bench, bytesOf, good, type Source } from './raw-pages.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);

/** What Postgres cannot hold, between what it can: a pair of surrogates, and an escaped backslash. */
const HOSTILE = String.raw`a\u0000b\ud800c\udc00\ud83d\ude00\\u0000`;
const MENDED = 'a\ufffdb\ufffdc\ufffd😀\\u0000';

describe.each(ENTITIES)('text of a $kind that Postgres cannot hold is mended (R10)', (entity) => {
  /** A record that holds the text wherever a text may stand, keys included. */
  const record = (text: string, id: string) => {
    const members = `[{"participant_jid":"${text}","person_id":"${text}","role":"${text}","${text}":"${text}"}]`;
    const fields = Object.entries(entity.fields).flatMap(([name, type]) => {
      if (type === 'id' || type === 'text') return `"${name}":"${text}"`;
      return type === 'object' ? `"${name}":{"${text}":[{"${text}":"${text}"}]}` : [];
    });
    if (entity === CONVERSATION) fields.push(`"participants":${members}`);
    return `{"${entity.key}":"${id}${text}",${fields.join()},"${text}":{"${text}":"${text}"}}`;
  };
  const expected = (text: string) => {
    const row: Record<string, unknown> = { extra: { [text]: { [text]: text } } };
    for (const [name, type] of Object.entries(entity.fields)) {
      if (type === 'id' || type === 'text') row[name] = text;
      if (type === 'object') row[name] = { [text]: [{ [text]: text }] };
    }
    return row;
  };
  const membersOf = (id: string) =>
    bench.query(
      'select participant_jid, person_id, role, extra from whatsapp.conversation_participants where conversation_id = $1',
      id,
    );

  test.each([
    ['NUL and lone surrogates', Buffer.from(record(HOSTILE, 'nul-')), 'nul-', MENDED],
    [
      'bytes that are no UTF-8',
      Buffer.from(record('a\xff\xe2\x82z', 'utf-'), 'latin1'),
      'utf-',
      'a\ufffd\ufffdz',
    ],
  ])('%s', async (_, bytes, prefix, text) => {
    const { rejects } = await bench.bring({ [entity.array]: [bytes] });
    expect(rejects).toEqual([]);
    const id = prefix + text;
    expect(await bench.row(entity, id)).toMatchObject(expected(text));
    if (entity !== CONVERSATION) return;
    expect(await membersOf(id)).toEqual([
      { participant_jid: text, person_id: text, role: text, extra: { [text]: text } },
    ]);
  });

  test('ids that mending makes equal are one record, the highest version of it', async () => {
    const [a, b] = [String.raw`same\u0000`, String.raw`same\udfff`];
    const name = Object.keys(entity.fields).find((field) => entity.fields[field] === 'text')!;
    await bench.bring({
      [entity.array]: [
        `{"${entity.key}":"${a}","${name}":"first"}`,
        `{"${entity.key}":"${b}","${name}":"last"}`,
      ],
    });
    expect(await bench.row(entity, 'same\ufffd')).toMatchObject({ [name]: 'last' });
  });
});

describe('the same id twice in a page (R3, R9)', () => {
  const text = (id: string, seq: number, body: string) =>
    `{"message_id":"${id}","conversation_id":"c","seq":${seq},"body":${body}}`;

  test('the newer one is good: it is stored, and the bad one is superseded at once', async () => {
    await bench.bring({ messages: [text('t1', 8, '"eight"'), text('t1', 7, '7'), text('t1', 5, '"five"')] });
    expect(await bench.row(MESSAGE, 't1')).toMatchObject({ body: 'eight' });
    expect(await bench.putAside()).toMatchObject([{ record_id: 't1', resolution: 'superseded' }]);
  });

  test('the newer one is bad: the older one is stored, and the bad one stays put aside', async () => {
    await bench.bring({ messages: [text('t2', 9, '9'), text('t2', 5, '"five"'), text('t2', 8, '"eight"')] });
    expect(await bench.row(MESSAGE, 't2')).toMatchObject({ body: 'eight', seq: 8n });
    expect(await bench.putAside()).toMatchObject([{ record_id: 't2', resolution: null }]);
  });
});

describe('odd, but good', () => {
  test.each<[json: string, seq: bigint | 'cursor']>([
    ['"seq":0', 0n],
    ['"seq":"42"', 42n],
    ['"seq":9223372036854775807', 9223372036854775807n],
    ['"seq":"9223372036854775807"', 9223372036854775807n],
    ['"seq":null', 'cursor'],
    ['"other":1', 'cursor'],
  ])('%s', async (json, seq) => {
    const id = `seq-${json}`;
    await bench.bring({ messages: [bytesOf(`{"message_id":${JSON.stringify(id)},"body":"x",${json}}`)] });
    expect(await bench.putAside()).toEqual([]);
    expect((await bench.row(MESSAGE, id))!.seq).toBe(seq === 'cursor' ? bench.cursor : seq);
  });

  test.each([
    ['9999-12-31T23:59:59.999999999Z', '9999-12-31 23:59:59.999999'],
    ['0001-01-01T00:00:00.000001Z', '0001-01-01 00:00:00.000001'],
    ['0001-01-01t05:30:00.1+05:30', '0001-01-01 00:00:00.100000'],
    ['1582-10-10T00:00:00-23:59', '1582-10-10 23:59:00.000000'],
    ['2026-06-30T23:59:60Z', '2026-07-01 00:00:00.000000'],
    ['2024-02-29T23:59:59.123456789123456789+00:00', '2024-02-29 23:59:59.123456'],
    ['0001-01-01T00:00:00Z', null],
    ['0001-01-01T05:30:00+05:30', null],
    ['', null],
  ])('a time of %s', async (time, stored) => {
    const times = Object.keys(MESSAGE.fields).filter((name) => MESSAGE.fields[name] === 'time');
    const all = Object.fromEntries(times.map((name) => [name, time]));
    await bench.bring({ messages: [{ message_id: `time-${time}`, conversation_id: 'c', ...all }] });
    expect(await bench.putAside()).toEqual([]);
    const [row] = await bench.query(
      `select ${times.map((name) => `to_char(${name} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as ${name}`)}
        from whatsapp.messages where message_id = $1`,
      `time-${time}`,
    );
    expect(row).toEqual(Object.fromEntries(times.map((name) => [name, stored])));
  });
});

describe('a bad participant is put aside without its conversation (R9)', () => {
  const members = async (id: string) =>
    (
      await bench.query<{ member: string }>(
        `select participant_jid || ' ' || coalesce(role, '–') as member from whatsapp.conversation_participants
          where connection_id = $1 and conversation_id = $2 order by 1`,
        CONNECTION,
        id,
      )
    ).map(({ member }) => member);
  const bringMembers = async (...participants: Source[]) => {
    const { id, ...fields } = good(CONVERSATION, bench.cursor);
    const list = participants.map((one) => bytesOf(one).toString('latin1')).join(' , ');
    const head = bytesOf(fields).toString('latin1').slice(0, -1);
    await bench.bring({ conversations: [Buffer.from(`${head},"participants":[ ${list} ]}`, 'latin1')] });
    expect(await bench.row(CONVERSATION, id)).toMatchObject({ subject: fields.subject });
    return id;
  };
  const a = { participant_jid: 'a@lid', role: 'admin' };
  const long = randomBytes(1025).toString('base64url').slice(0, 1025);

  test.each<[name: string, json: string, code: string, id: string | null]>([
    ['null', 'null', 'not_an_object', null],
    ['text', '"a@lid"', 'not_an_object', null],
    ['without a JID', '{"role":"member"}', 'id_missing', null],
    ['with an empty one', '{"participant_jid":"","role":"x"}', 'id_missing', null],
    ['with a number for one', '{"participant_jid":491701234567}', 'type_mismatch', null],
    ['with one too long', `{"participant_jid":"${long}"}`, 'id_too_long', long.slice(0, 200)],
    ['with a number for a role', '{"participant_jid":"b@lid", "role":5}', 'type_mismatch', 'b@lid'],
    ['with a person too long', `{"participant_jid":"b@lid","person_id":"${long}"}`, 'id_too_long', 'b@lid'],
    [
      'nested too deep',
      `{"participant_jid":"d@lid","x":${'['.repeat(300)}${']'.repeat(300)}}`,
      'too_deep',
      'd@lid',
    ],
    ['with bytes that are no UTF-8', '{"participant_jid":"\xff","role":5}', 'type_mismatch', '\ufffd'],
  ])('%s', async (_, json, code, recordId) => {
    const id = await bringMembers(a, Buffer.from(json, 'latin1'), { participant_jid: 'c@lid' });
    expect(await members(id)).toEqual(['a@lid admin', 'c@lid –']);
    const entries = await bench.putAside();
    expect(entries).toMatchObject([
      { kind: 'participant', error_code: code, record_id: recordId, conversation_id: id, resolution: null },
    ]);
    expect(entries[0]!.bytes.toString('latin1')).toBe(json);
    expect(entries[0]!.record_sha256).toBe(
      createHash('sha256').update(Buffer.from(json, 'latin1')).digest('hex'),
    );
  });

  test('one that comes twice: the last one counts, and none is put aside', async () => {
    const id = await bringMembers(a, { participant_jid: 'b@lid' }, { ...a, role: 'member' });
    expect(await members(id)).toEqual(['a@lid member', 'b@lid –']);
    expect(await bench.putAside()).toEqual([]);
  });

  test('nothing but bad ones: the membership is empty', async () => {
    const id = await bringMembers('[1]', '[2]');
    expect(await members(id)).toEqual([]);
    expect(await bench.putAside()).toHaveLength(2);
  });
});

test('`quarantine show` gives back the very bytes that came', async () => {
  const bytes = Buffer.from(
    '{ "message_id":"\xff\xfe\\u0000", "body" : 5, "\xc3(":"\xf0\x9f\x98" }',
    'latin1',
  );
  await bench.bring({ messages: [bytes] });
  const [entry] = await bench.putAside();
  const bin = fileURLToPath(new URL('../../src/bin.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [bin, 'quarantine', 'show', entry!.quarantine_id],
    {
      encoding: 'buffer',
      cwd: tmpdir(),
      env: { PATH: process.env.PATH, DATABASE_URL: database.url },
    },
  );
  expect(stdout.includes(Buffer.concat([Buffer.from('\n\n'), bytes, Buffer.from('\n')]))).toBe(true);
});
