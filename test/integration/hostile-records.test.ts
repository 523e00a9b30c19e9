import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ENTITIES, type Entity } from '../../src/entities.ts';
import { useTestDatabase } from '../support/database.ts';
import { asStored, Bench, bytesOf, good, type Source } from './raw-pages.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Brings bad records between good ones, and looks whether the good ones are there and the bad ones put aside. */
async function refuses(entity: Entity, bad: readonly [json: Source, code: string, id: string | null][]) {
  const [first, last] = [good(entity, bench.cursor), good(entity, bench.cursor)];
  const count = async () =>
    Number((await bench.query<{ n: string }>(`select count(*) as n from whatsapp.${entity.table}`))[0]!.n);
  const before = await count();
  const { from } = await bench.bring({ [entity.array]: [first, ...bad.map(([json]) => json), last] });
  expect(await bench.storedCursor()).toBe(bench.cursor);
  expect(await count()).toBe(before + 2);
  for (const one of [first, last]) {
    expect(await bench.row(entity, one.id)).toMatchObject(asStored(one));
  }
  const entries = await bench.putAside();
  for (const [index, { bytes }] of entries.entries())
    expect(bytes.equals(bytesOf(bad[index]![0]))).toBe(true);
  expect(entries.map(({ bytes: _, record_json: __, ...rest }) => rest)).toMatchObject(
    bad.map(([json, error_code, record_id]) => ({
      ...{ kind: entity.kind, error_code, record_id, numbering: 1, attempts: 1, resolution: null },
      record_sha256: sha256(bytesOf(json)),
      cursor_from: from.toString(),
      cursor_to: bench.cursor.toString(),
    })),
  );
}

/** For texts that must differ from each other. */
let made = 0;
const fieldsOf = ({ fields }: Entity, ...types: string[]) =>
  Object.keys(fields).filter((name) => types.includes(fields[name]!));
const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
const random = (bytes: number) => randomBytes(bytes).toString('base64url').slice(0, bytes);

describe.each(ENTITIES)('a $kind that cannot be stored is put aside, alone (R9)', (entity) => {
  const { key } = entity;
  const withId = (id: string) => `{"${key}": ${id}, "no": ${++made}}`;
  const withField = (name: string, json: string) => `{"${key}":"x${++made}", "${name}" : ${json} }`;
  const put = (name: string, json: string, code: string): [string, string, string] => {
    const text = withField(name, json);
    return [text, code, `x${made}`];
  };

  test('no object', () =>
    refuses(entity, [
      ...[
        'null',
        'true',
        '0',
        '12345678901234567890',
        '""',
        '"text"',
        '[]',
        `[{"${key}":"in an array"}]`,
      ].map((json): [string, string, null] => [json, 'not_an_object', null]),
    ]));

  test('no id, an empty one, one of a wrong type', () =>
    refuses(entity, [
      ['{}', 'id_missing', null],
      [withId('null'), 'id_missing', null],
      [withId('""'), 'id_missing', null],
      [withId('5'), 'type_mismatch', null],
      [withId('true'), 'type_mismatch', null],
      [withId('["x"]'), 'type_mismatch', null],
      [withId('{}'), 'type_mismatch', null],
    ]));

  test('numbers and the like where text belongs', () =>
    refuses(
      entity,
      fieldsOf(entity, 'id', 'text').flatMap((name) =>
        ['5', '1.50', '12345678901234567890', 'false', '[]', '{}'].map((json) =>
          put(name, json, 'type_mismatch'),
        ),
      ),
    ));

  test('text and the like where something else belongs', () =>
    refuses(entity, [
      ...fieldsOf(entity, 'boolean').flatMap((name) =>
        ['"true"', '0', '1.5', '[]'].map((json) => put(name, json, 'type_mismatch')),
      ),
      ...fieldsOf(entity, 'object').flatMap((name) =>
        ['"{}"', '[]', '5', '1.5', 'true'].map((json) => put(name, json, 'type_mismatch')),
      ),
      ...fieldsOf(entity, 'time').flatMap((name) =>
        ['1795178096', '1795178096.5', 'true', '{}'].map((json) => put(name, json, 'type_mismatch')),
      ),
    ]));

  const badTimes = [
    ...[
      'now',
      'infinity',
      'epoch',
      ' ',
      '2026-11-20',
      '2026-11-20 12:00',
      '20261120T120000Z',
      '2026-11-01T10:00:00',
    ],
    ...['2026-02-30T00:00:00Z', '2025-02-29T00:00:00Z', '2026-13-01T00:00:00Z', '2026-11-01T24:00:00Z'],
    ...[
      '2026-11-01T10:60:00Z',
      '2026-11-01T10:00:00+24:00',
      '2026-11-01T10:00:00\\u0000Z',
      '+2026-11-01T10:00:00Z',
    ],
    ...[
      '0000-12-31T23:59:59Z',
      '0001-01-01T00:00:00+00:01',
      '9999-12-31T23:59:59-00:01',
      '10000-01-01T00:00:00Z',
    ],
  ];
  test.runIf(fieldsOf(entity, 'time').length > 0)('times that are none, or out of all bounds', () =>
    refuses(
      entity,
      fieldsOf(entity, 'time').flatMap((name) =>
        badTimes.map((time) => put(name, `"${time}"`, 'time_invalid')),
      ),
    ),
  );

  test('ids and JIDs of over 1,024 bytes, compressible ones and random ones', () =>
    refuses(entity, [
      ...['a'.repeat(1025), random(1025), 'é'.repeat(513), random(100_000), 'ab'.repeat(1_000_000)].map(
        (id): [string, string, string] => [
          `{"${key}":"${id}"}`,
          'id_too_long',
          Buffer.from(id).toString('utf8', 0, 200),
        ],
      ),
      ...fieldsOf(entity, 'id').flatMap((name) =>
        ['a'.repeat(1025), random(5000)].map((id) => put(name, `"${id}"`, 'id_too_long')),
      ),
    ]));

  test('ids and JIDs of 1,024 random bytes are stored, all at once', async () => {
    const ids = Object.fromEntries([key, ...fieldsOf(entity, 'id')].map((name) => [name, random(1024)]));
    await bench.bring({ [entity.array]: [{ ...good(entity, bench.cursor), ...ids }] });
    expect(await bench.putAside()).toEqual([]);
    expect(await bench.row(entity, ids[key]!)).toMatchObject(ids);
  });

  test('nesting too deep', () =>
    refuses(
      entity,
      [...fieldsOf(entity, 'object'), 'unknown', '__proto__'].flatMap((name) => [
        put(name, nested(256), 'too_deep'),
        put(name, nested(50_000), 'too_deep'),
      ]),
    ));

  test.runIf(entity.version === 'seq')('a seq that is negative, no integer, or beyond int64', () =>
    refuses(
      entity,
      [
        '-1',
        '1.5',
        '1.0',
        '1e3',
        '"x"',
        '""',
        '"-1"',
        'true',
        '[]',
        '{}',
        '9223372036854775808',
        '1e400',
      ].map((seq) => put('seq', seq, 'seq_invalid')),
    ),
  );

  test('with a body of 5 MB', async () => {
    const name = fieldsOf(entity, 'text')[0]!;
    const large = '漢\\"\\n'.repeat(750_000);
    const one = { ...good(entity, bench.cursor), [name]: large };
    await bench.bring({ [entity.array]: [one] });
    expect((await bench.row(entity, one.id))![name] === large).toBe(true);
    await refuses(entity, [[`{"${key}":5,"${name}":${JSON.stringify(large)}}`, 'type_mismatch', null]]);
  });

  test('whose bytes are no UTF-8', () =>
    refuses(entity, [
      [
        Buffer.from(`{"${key}":"b\xff\xc3","${fieldsOf(entity, 'text')[0]}":5}`, 'latin1'),
        'type_mismatch',
        'b��',
      ],
      [Buffer.from('"\xed\xa0\x80"', 'latin1'), 'not_an_object', null],
    ]));

  test('with NUL and lone surrogates, which it keeps as they came', () =>
    refuses(entity, [
      [`{"${key}":"n\\u0000","${fieldsOf(entity, 'text')[0]}":["\\u0000\\ud800"]}`, 'type_mismatch', 'n�'],
    ]));

  test('in a page of nothing else, which advances', async () => {
    const bad = ['null', '5', `{"${key}":["${++made}"]}`].map((json) => ` ${json} `.trim());
    const { rejects } = await bench.bring({ [entity.array]: bad.map((json) => `${json}`) });
    expect(rejects).toHaveLength(3);
    expect(await bench.storedCursor()).toBe(bench.cursor);
    expect(
      await bench.query('select quarantined from whatsapp.sync_pages where cursor_to = $1', bench.cursor),
    ).toEqual([{ quarantined: 3 }]);
  });
});
