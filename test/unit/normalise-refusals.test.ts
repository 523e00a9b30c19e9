import { describe, expect, test } from 'vitest';
import { ENTITIES } from '../../src/entities.ts';
import { MAX_DEPTH } from '../../src/lib/text.ts';
import { normalise } from '../../src/sync/normalise.ts';
import { bytesOf, changesOf, pageOf, parsedRow, rejectOf } from './pages.ts';

/** A JSON value nested so deep. */
function nested(depth: number): string {
  return `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`;
}

const NOT_OBJECTS = ['null', 'true', '0', '12345678901234567890', '""', '"{}"', '[]', '[{"message_id":"m"}]'];
const NOT_IDS: readonly [json: string, code: string][] = [
  ['""', 'id_missing'],
  ['null', 'id_missing'],
  ['5', 'type_mismatch'],
  ['12345678901234567890', 'type_mismatch'],
  ['1.5', 'type_mismatch'],
  ['true', 'type_mismatch'],
  ['["x"]', 'type_mismatch'],
  ['{}', 'type_mismatch'],
];
const WRONG: Readonly<Record<string, readonly string[]>> = {
  id: ['5', '1.5', 'false', '{}', '[]'],
  text: ['5', '12345678901234567890', 'true', '{}', '[]'],
  boolean: ['"true"', '0', '1.5', '{}', '[]', '""'],
  time: ['1795178096', '1795178096.5', 'true', '{}', '[]'],
  object: ['[]', '"{}"', '5', '1.5', 'true', '""'],
};

describe.each(ENTITIES)('a $kind (R9)', ({ kind, array, key, version, fields }) => {
  test.each(NOT_OBJECTS)('that is %s is refused', (json) => {
    expect(rejectOf(array, json)).toEqual({
      kind,
      recordId: null,
      json: Buffer.from(json),
      code: 'not_an_object',
      reason: 'the record is no JSON object',
    });
  });

  test('without an id is refused', () => {
    expect(rejectOf(array, '{"other": 1}')).toMatchObject({ code: 'id_missing', recordId: null });
  });

  test.each(NOT_IDS)('with the id %s is refused: %s', (json, code) => {
    expect(rejectOf(array, `{"${key}" : ${json}}`)).toMatchObject({
      kind,
      code,
      json: Buffer.from(`{"${key}" : ${json}}`),
      reason: expect.stringContaining(`"${key}"`),
    });
  });

  test.each(
    Object.entries(fields).flatMap(([name, type]) => WRONG[type]!.map((json) => [name, json] as const)),
  )('with "%s": %s is refused', (name, json) => {
    const reject = rejectOf(array, `{"${key}":"x","${name}":${json}}`);
    expect(reject).toMatchObject({ kind, recordId: 'x', code: 'type_mismatch' });
    expect(reject.reason).toMatch(new RegExp(`^"${name}" is not an? (string|boolean|object)$`));
  });

  const times = Object.keys(fields).filter((name) => fields[name] === 'time');
  const noTimes = ['now', 'infinity', '2026-02-30T00:00:00Z', '2026-11-20', ' '];
  test.each(times.flatMap((name) => noTimes.map((time) => [name, time] as const)))(
    'with "%s": "%s" is refused',
    (name, time) =>
      expect(rejectOf(array, { [key]: 'x', [name]: time })).toMatchObject({
        code: 'time_invalid',
        reason: `"${name}" is no RFC 3339 time`,
      }),
  );

  test('with an id of over 1,024 bytes is refused, in each of its ids', () => {
    const ids = [key, ...Object.keys(fields).filter((name) => fields[name] === 'id')];
    for (const name of ids) {
      for (const [character, count] of [
        ['a', 1024],
        ['é', 512],
        ['漢', 341],
        ['😀', 256],
      ] as const) {
        const fits = character.repeat(count).padEnd(character === '漢' ? 342 : 0, 'a');
        expect(Buffer.byteLength(fits)).toBe(1024);
        expect(parsedRow(array, { [key]: 'x', [name]: fits })[name]).toBe(fits);
        const reject = rejectOf(array, { [key]: 'x', [name]: `${fits}a` });
        expect(reject).toMatchObject({ code: 'id_too_long', reason: `"${name}" has over 1024 bytes` });
      }
    }
  });

  test('nested too deep is refused, and told from one that is not', () => {
    const objects = Object.keys(fields).filter((name) => fields[name] === 'object');
    for (const name of [...objects, 'unknown']) {
      expect(rejectOf(array, `{"${key}":"x","${name}":${nested(MAX_DEPTH)}}`).code).toBe('too_deep');
      expect(rejectOf(array, `{"${key}":"x","${name}":${nested(100_000)}}`).code).toBe('too_deep');
      expect(rejectOf(array, `{"${key}":"\\u0000","${name}":${nested(100_000)}}`).code).toBe('too_deep');
      expect(parsedRow(array, `{"${key}":"x","${name}":${nested(MAX_DEPTH - 1)}}`)).toHaveProperty(key, 'x');
    }
  });

  const bad = [
    '-1',
    '1.5',
    '1.0',
    '1e3',
    '9223372036854775808',
    '"9223372036854775808"',
    '"-1"',
    '""',
    '"x"',
  ];
  test.each(version === 'seq' ? [...bad, 'true', '[]', '{}'] : [])('with "seq": %s is refused', (seq) => {
    const reject = rejectOf(array, `{"${key}":"x","seq":${seq}}`);
    expect(reject).toMatchObject({ code: 'seq_invalid', recordId: 'x' });
    expect(reject).not.toHaveProperty('version');
  });
});

describe('what is kept of a record that is refused', () => {
  test('is its bytes exactly as they came', () => {
    const records = [
      '{ "message_id" : "a",\n\t"body":5 , "body" : 6 }',
      '{"message_id":"b","body":{"]":"}"},"x":"\\"\\\\"}',
      '12345678901234567890.00',
      Buffer.concat([Buffer.from('{"body":"'), Buffer.from([0xff, 0xc3, 0x00 + 0x41]), Buffer.from('"}')]),
      String.raw`{"message_id":"\u0000","body":1e2}`,
    ];
    const { rejects, batches } = changesOf(
      'messages',
      '{"message_id":"good"}',
      ...records,
      '{"message_id":"g2"}',
    );
    expect(rejects.map((reject) => reject.json)).toEqual(records.map(bytesOf));
    expect(batches.flatMap((batch) => batch.rows).map((row) => row.message_id)).toEqual(['good', 'g2']);
  });

  test('is its own version where it is readable', () => {
    const wide = '9007199254740993';
    expect(rejectOf('messages', `{"message_id":"m","seq":${wide},"body":1}`).version).toBe(wide);
    expect(rejectOf('conversations', '{"seq":"5"}').version).toBe('5');
    expect(rejectOf('messages', '{"message_id":"m","body":1}')).not.toHaveProperty('version');
    expect(rejectOf('contacts', '{"person_id":"p","seq":5,"company":1}')).not.toHaveProperty('version');
  });

  test.each([
    ['a'.repeat(1025), 'a'.repeat(200)],
    [`${'a'.repeat(199)}${'é'.repeat(500)}`, 'a'.repeat(199)],
    ['漢'.repeat(400), '漢'.repeat(66)],
  ])('is its id, cut to 200 bytes', (id, cut) => {
    expect(rejectOf('contacts', { person_id: id }).recordId).toBe(cut);
  });

  test('is its id as it would be stored', () => {
    expect(rejectOf('contacts', String.raw`{"person_id":"p\u0000\ud800","company":1}`).recordId).toBe(
      'p\ufffd\ufffd',
    );
    expect(rejectOf('contacts', '{"person_id":12345678901234567890}').recordId).toBe('12345678901234567890');
  });

  test('holds no value in its reason', () => {
    const secret = '§secret§';
    const records = [
      `"${secret}"`,
      `["${secret}"]`,
      JSON.stringify({ message_id: [secret] }),
      JSON.stringify({ message_id: secret.repeat(200) }),
      JSON.stringify({ message_id: 'm', sent_at: secret }),
      JSON.stringify({ message_id: 'm', seq: secret }),
      JSON.stringify({ message_id: 'm', body: { [secret]: secret } }),
      JSON.stringify({ message_id: 'm', is_from_me: secret, media: secret }),
      `{"message_id":"m","${secret}":${nested(MAX_DEPTH)}}`,
    ];
    const { rejects } = changesOf('messages', ...records);
    expect(rejects).toHaveLength(records.length);
    for (const { code, reason } of rejects) expect(code + reason).not.toContain(secret);
  });
});

test('a page of nothing but bad records is taken apart whole', () => {
  const records = 300_000;
  const page = pageOf('messages', new Array<string>(records).fill('0'));
  const { rejects, batches, came } = normalise(page);
  expect(rejects).toHaveLength(records);
  expect(batches).toEqual([]);
  expect(came.message).toBe(records);
});
