import { describe, expect, test } from 'vitest';
import { parseRetryAfter } from '../../src/upstream/retry-after.ts';

const NOW = Date.UTC(2026, 10, 20, 12);

describe('Retry-After', () => {
  test.each<[header: string | string[], ms: number]>([
    ['0', 0],
    ['1', 1000],
    ['120', 120_000],
    ['0.5', 500],
    [' 7 ', 7000],
    ['9999999999', 9_999_999_999_000],
    [['3', '9'], 3000],
    ['Fri, 20 Nov 2026 12:00:30 GMT', 30_000],
    ['Friday, 20-Nov-26 12:01:00 GMT', 60_000],
    ['Fri, 20 Nov 2026 14:00:30 +0200', 30_000],
    // The clocks may differ: a date that has passed is no wait, and no error.
    ['Fri, 20 Nov 2026 11:59:59 GMT', 0],
    ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ])('%j is %i ms', (header, ms) => expect(parseRetryAfter(header, NOW)).toBe(ms));

  test.each<string | string[] | undefined>([
    undefined,
    '',
    ' ',
    '-5',
    '+5',
    '1e3',
    '5s',
    '0x10',
    'soon',
    'Fri, 99 Nov 2026 12:00:30 GMT',
    '2026-11-20T12:00:30Z',
    '1, 2',
    [],
  ])('%j says nothing', (header) => expect(parseRetryAfter(header, NOW)).toBeUndefined());

  test('is never negative and always a number, however long it is', () => {
    expect(parseRetryAfter('9'.repeat(400), NOW)).toBe(Number.POSITIVE_INFINITY);
  });
});
