import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseTime } from '../../src/lib/rfc3339.ts';

const CANONICAL = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,5}[1-9])?Z$/;

describe('a time', () => {
  test.each([
    ['2026-11-20T12:34:56Z', '2026-11-20T12:34:56Z'],
    ['2026-11-20t12:34:56z', '2026-11-20T12:34:56Z'],
    ['2026-11-20 12:34:56Z', '2026-11-20T12:34:56Z'],
    ['2026-11-20T12:34:56+00:00', '2026-11-20T12:34:56Z'],
    ['2026-11-20T12:34:56-00:00', '2026-11-20T12:34:56Z'],
    ['2026-11-20T12:34:56+05:30', '2026-11-20T07:04:56Z'],
    ['2026-11-20T12:34:56-09:45', '2026-11-20T22:19:56Z'],
    ['2026-11-20T12:34:56+23:59', '2026-11-19T12:35:56Z'],
    ['2026-01-01T00:30:00+01:00', '2025-12-31T23:30:00Z'],
    ['2025-12-31T23:30:00-01:00', '2026-01-01T00:30:00Z'],
    ['2024-02-29T23:59:59-00:01', '2024-03-01T00:00:59Z'],
    ['0099-03-01T00:00:00+00:01', '0099-02-28T23:59:00Z'],
  ])('%s is %s', (text, utc) => expect(parseTime(text)).toBe(utc));

  test.each([
    ['.5', '.5'],
    ['.123456', '.123456'],
    ['.1234569', '.123456'],
    ['.999999999', '.999999'],
    ['.9999999999999999999999', '.999999'],
    ['.0000009', ''],
    ['.000', ''],
    ['.120', '.12'],
    ['.100000900', '.1'],
  ])('with %s is cut after the sixth digit, not rounded', (fraction, kept) => {
    expect(parseTime(`2026-12-31T23:59:59${fraction}Z`)).toBe(`2026-12-31T23:59:59${kept}Z`);
    expect(parseTime(`2026-12-31T23:59:59${fraction}-01:00`)).toBe(`2027-01-01T00:59:59${kept}Z`);
  });

  test.each([
    ['2000-02-29T00:00:00Z', true],
    ['2024-02-29T00:00:00Z', true],
    ['1900-02-29T00:00:00Z', false],
    ['2100-02-29T00:00:00Z', false],
    ['2025-02-29T00:00:00Z', false],
    ['2025-02-29T00:00:00+01:00', false],
    ['2024-02-30T00:00:00Z', false],
  ])('%s exists: %s', (text, exists) => expect(parseTime(text) !== undefined).toBe(exists));

  test.each([
    ['2016-12-31T23:59:60Z', '2017-01-01T00:00:00Z'],
    ['2016-12-31T23:59:60.75Z', '2017-01-01T00:00:00.75Z'],
    ['2017-01-01T00:59:60+01:00', '2017-01-01T00:00:00Z'],
  ])('on a leap second, %s, is the second after it', (text, utc) => expect(parseTime(text)).toBe(utc));

  test.each([
    ['0001-01-01T00:00:01Z', '0001-01-01T00:00:01Z'],
    ['0001-01-01T00:00:00-01:00', '0001-01-01T01:00:00Z'],
    ['0000-12-31T23:30:00-01:00', '0001-01-01T00:30:00Z'],
    ['9999-12-31T23:59:59.9999999Z', '9999-12-31T23:59:59.999999Z'],
    ['9999-12-31T23:59:59+00:01', '9999-12-31T23:58:59Z'],
    ['0001-01-01T00:00:00+00:01', undefined],
    ['0000-01-01T00:00:00+00:01', undefined],
    ['9999-12-31T23:59:59-00:01', undefined],
    ['9999-12-31T23:59:60Z', undefined],
    ['0000-06-01T00:00:00Z', undefined],
    ['0000-12-31T23:59:59+00:00', undefined],
  ])('at the ends of the calendar, %s, is %s', (text, utc) => expect(parseTime(text)).toBe(utc));
});

describe('not set', () => {
  test.each(['', '0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000000000Z', '0001-01-01T01:00:00+01:00'])(
    'is %j',
    (text) => expect(parseTime(text)).toBeNull(),
  );

  test.each(['0001-01-01T00:00:00.000001Z', '0001-01-02T00:00:00Z', ' ', 'null', '0'])('is not %j', (text) =>
    expect(parseTime(text)).not.toBeNull(),
  );
});

describe('no time', () => {
  test.each([
    // Postgres' own input takes these.
    ...['now', 'today', 'yesterday', 'infinity', '-infinity', 'epoch', 'allballs', '2026-11-20', '20261120'],
    ...['2026-11-20T12:34:56', '2026-11-20T12:34Z', '2026-11-20T12:34:56 UTC', '2026-11-20T12:34:56+01'],
    ...[
      '2026-11-20T12:34:56+0100',
      '2026-11-20 12:34:56 Europe/Berlin',
      '2026-11-20T24:00:00Z',
      '1795178096',
    ],
    ...['2026-13-01T00:00:00Z', '2026-00-01T00:00:00Z', '2026-01-00T00:00:00Z', '2026-01-32T00:00:00Z'],
    ...['2026-04-31T00:00:00Z', '2026-02-30T00:00:00Z', '2026-11-20T12:60:00Z', '2026-11-20T12:34:61Z'],
    ...['2026-11-20T12:34:56+24:00', '2026-11-20T12:34:56-24:00', '2026-11-20T12:34:56+23:60'],
    ...['2026-11-20T12:34:56.Z', '2026-11-20T12:34:56,5Z', '2026-11-20T12:34:56.5', '12026-11-20T12:34:56Z'],
    ...['2026-11-20T12:34:56X', '2026-11-20T12:34:56.5X', '2026-11-20T12:34:56.Z5'],
    ...['-2026-11-20T12:34:56Z', ' 2026-11-20T12:34:56Z', '2026-11-20T12:34:56Z\n', '2026-11-20T12:34:56ZZ'],
    ...[
      '2026-11-20\n12:34:56Z',
      '２０２６-11-20T12:34:56Z',
      '2026-1-20T12:34:56Z',
      '2026-11-20T12:34:56Z BC',
    ],
  ])('is %j', (text) => expect(parseTime(text)).toBeUndefined());
});

test('a time that ends in Z is taken as if it ended in z, whatever is wrong with it', () => {
  const same = (text: string) => expect(parseTime(`${text}Z`), text).toBe(parseTime(`${text}z`));
  for (const time of ['2026-11-20T12:34:56.1234567', '0001-01-01T00:00:00.000001', '2026-11-20T12:34:56']) {
    same(time);
    for (let at = 0; at < time.length; at++) {
      for (const one of ['', ...'0/:9-.T Z']) same(time.slice(0, at) + one + time.slice(at + 1));
    }
  }
});

describe('against Date', () => {
  const two = (value: number) => String(value).padStart(2, '0');

  test('every instant with every offset is the same instant in UTC', () => {
    const instants = fc.date({
      min: new Date('0001-01-02T00:00:00Z'),
      max: new Date('9999-12-30T23:59:59Z'),
      noInvalidDate: true,
    });
    const offsets = fc.integer({ min: -1439, max: 1439 });
    const fractions = fc.stringMatching(/^[0-9]{1,12}$/);
    fc.assert(
      fc.property(instants, offsets, fractions, (instant, offset, fraction) => {
        const whole = Math.floor(instant.getTime() / 1000) * 1000;
        const local = new Date(whole + offset * 60_000).toISOString().slice(0, 19);
        const away = Math.abs(offset);
        const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(away / 60))}:${two(away % 60)}`;
        const kept = fraction.slice(0, 6).replace(/0+$/, '');
        const parsed = parseTime(`${local}.${fraction}${zone}`);
        expect(parsed).toBe(`${new Date(whole).toISOString().slice(0, 19)}${kept && `.${kept}`}Z`);
        expect(parsed).toMatch(CANONICAL);
        expect(parseTime(parsed!)).toBe(parsed);
      }),
      { numRuns: 500 },
    );
  });

  test('a date and time are taken exactly when they exist', () => {
    const part = (max: number) => fc.integer({ min: 0, max });
    fc.assert(
      fc.property(part(2999), part(13), part(32), part(24), part(60), part(61), (y, mo, d, h, mi, s) => {
        const date = new Date(0);
        date.setUTCFullYear(y, mo - 1, d);
        date.setUTCHours(h, mi, Math.min(s, 59));
        const exists =
          y > 0 && s <= 60 && date.getUTCMonth() === mo - 1 && date.getUTCDate() === d && h < 24 && mi < 60;
        const text = `${String(y).padStart(4, '0')}-${two(mo)}-${two(d)}T${two(h)}:${two(mi)}:${two(s)}Z`;
        expect(parseTime(text) !== undefined).toBe(exists);
      }),
      { numRuns: 2000 },
    );
  });

  test('no text throws, and whatever is taken is canonical', () => {
    const noise = fc.array(
      fc.constantFrom('2026-11-20', 'T', '12:34:56', '.5', 'Z', '+01:00', '-', '0', ' '),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          noise.map((parts) => parts.join('')),
          fc.string(),
        ),
        (text) => {
          const parsed = parseTime(text);
          if (typeof parsed === 'string') expect(parsed).toMatch(CANONICAL);
        },
      ),
      { numRuns: 500 },
    );
  });
});
