import { afterEach, beforeEach, expect, test } from 'vitest';
import { momentOf } from '../../src/cli/moment.ts';

const zone = process.env.TZ;
beforeEach(() => {
  process.env.TZ = 'America/New_York';
});
afterEach(() => {
  if (zone === undefined) delete process.env.TZ;
  else process.env.TZ = zone;
});

test('a date is of UTC where it names no zone, wherever the machine is', () => {
  for (const [text, at] of [
    ['2026-11-29', '2026-11-29T00:00:00.000Z'],
    ['2026-11-29T10:00', '2026-11-29T10:00:00.000Z'],
    ['2026-11-29 10:00:30.5', '2026-11-29T10:00:30.500Z'],
    ['2026-11-29T10:00Z', '2026-11-29T10:00:00.000Z'],
    ['2026-11-29 10:00 +01:00', '2026-11-29T09:00:00.000Z'],
    ['2026-11-29T10:00:00-0500', '2026-11-29T15:00:00.000Z'],
  ] as const) {
    expect([text, momentOf(text).toISOString()]).toEqual([text, at]);
  }
});

test('a duration is how long ago; anything else is refused', () => {
  expect(Math.abs(momentOf('1h').getTime() + 3_600_000 - Date.now())).toBeLessThan(5_000);
  for (const text of [
    '',
    'yesterday',
    '2026-13-01',
    '2026-02-30',
    '2026-11-31T10:00',
    '2026-11-29T25:00',
    '2026-11-29x',
    '7',
  ]) {
    expect(() => momentOf(text)).toThrow('a duration such as 7d is wanted, or a date such as 2026-11-01');
  }
});
