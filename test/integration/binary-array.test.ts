/** Rows as they are encoded for Postgres, read back by it (R4, R5, R10). */
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseTime } from '../../src/lib/rfc3339.ts';
import { binaryArray, type ElementType } from '../../src/store/binary-array.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await createTestDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client?.end();
  await database?.drop();
});

/** What Postgres makes of an array, each element as the text that `expression` gives. */
async function readBack(type: ElementType, values: readonly unknown[], expression = 'v::text') {
  const { rows } = await client.query<{ text: string | null }>(
    `select ${expression} as text from unnest($1::${type}[]) with ordinality as u (v, n) order by n`,
    [binaryArray(type, values, (value) => value)],
  );
  return rows.map(({ text }) => text);
}

const seed = process.env.TEST_SEED === undefined ? {} : { seed: Number(process.env.TEST_SEED) };
const holds = (property: fc.IAsyncProperty<unknown>) => fc.assert(property, { numRuns: 40, ...seed });
const arrays = <T>(value: fc.Arbitrary<T>) =>
  fc
    .array(fc.option(value), { minLength: 1, maxLength: 60 })
    .filter((all) => all.some((one) => one !== null));

test('text, of any length and script', async () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 200 }).map((one) => one.replaceAll('\0', ''));
  await holds(
    fc.asyncProperty(arrays(text), async (values) => {
      expect(await readBack('text', values)).toEqual(values);
    }),
  );
  const long = ['x'.repeat(400_000), '€'.repeat(300_000), null, '', '𝄞'.repeat(200_000)];
  expect(await readBack('text', long)).toEqual(long);
});

test('int64, every digit', async () => {
  const digits = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }).map(String);
  await holds(
    fc.asyncProperty(arrays(digits), async (values) => {
      expect(await readBack('bigint', values)).toEqual(values);
    }),
  );
  const edges = [0n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n + 1n, 2n ** 63n - 1n];
  expect(await readBack('bigint', edges.map(String))).toEqual(edges.map(String));
});

test('times are what Postgres itself reads of the same text', async () => {
  const same = async (times: readonly (string | null)[]) => {
    const { rows } = await client.query<{ text: string | null }>(
      `select extract(epoch from v)::text as text
       from unnest($1::timestamptz[]) with ordinality as u (v, n) order by n`,
      [times],
    );
    expect(await readBack('timestamptz', times, 'extract(epoch from v)::text')).toEqual(
      rows.map(({ text }) => text),
    );
  };
  const written = (text: string) => parseTime(text)!;
  const time = fc
    .tuple(
      fc.date({
        min: new Date('0001-01-02T00:00:00Z'),
        max: new Date('9999-12-31T00:00:00Z'),
        noInvalidDate: true,
      }),
      fc.integer({ min: 0, max: 999_999 }),
    )
    .map(([date, micros]) =>
      written(`${date.toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}Z`),
    );
  await holds(fc.asyncProperty(arrays(time), same));
  await same(
    [
      ...[
        '0001-01-01T00:00:00.000001Z',
        '0004-02-29T23:59:59Z',
        '1582-10-15T00:00:00Z',
        '1899-12-31T23:59:59.9Z',
      ],
      ...[
        '1900-02-28T12:00:00Z',
        '1900-03-01T00:00:00Z',
        '1999-12-31T23:59:59.999999Z',
        '2000-01-01T00:00:00Z',
      ],
      ...[
        '2000-02-29T00:00:00Z',
        '2000-03-01T00:00:00.5Z',
        '2024-02-29T10:00:00.12+14:00',
        '2026-12-31T23:59:60Z',
      ],
      ...['2100-02-28T23:59:59Z', '2100-03-01T00:00:00Z', '9999-12-31T23:59:59.999999Z'],
    ].map(written),
  );
});

test('booleans, and JSON with every digit', async () => {
  expect(await readBack('boolean', [true, null, false])).toEqual(['true', null, 'false']);
  const json = ['{"a": 9007199254740993}', null, '"€"', 'null', '[1, 2.50]'];
  expect(await readBack('jsonb', json)).toEqual(json);
});

test('an array without a value is none', () => {
  expect(binaryArray('text', [null, undefined], (value) => value)).toBeUndefined();
  expect(binaryArray('text', [], (value) => value)).toBeUndefined();
});
