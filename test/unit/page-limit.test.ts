import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { PageLimit } from '../../src/sync/page-limit.ts';

const KIB = 1024;
const MIB = 1024 ** 2;

/** A limit of its own key, unless told otherwise. */
function limitOf(start: number, most = 2_000, maxBytes = 64 * MIB, cap = { most: Number.POSITIVE_INFINITY }) {
  return new PageLimit(start, most, maxBytes, cap);
}

/** Good pages of as many records as the limit allows, each of the given weight. */
function good(limit: PageLimit, pages: number, { weight = KIB, hasMore = true } = {}): void {
  for (let n = 0; n < pages; n++) limit.good(limit.current, limit.current * weight, hasMore);
}

describe('the limit grows', () => {
  test('to the double after ten good pages with more behind them, up to the greatest', () => {
    const limit = limitOf(500);
    good(limit, 9);
    expect(limit.current).toBe(500);
    good(limit, 1);
    expect(limit.current).toBe(1_000);
    good(limit, 9);
    expect(limit.current).toBe(1_000);
    good(limit, 100);
    expect(limit.current).toBe(2_000);
  });

  test('not by polls that end a backlog', () => {
    const limit = limitOf(500);
    good(limit, 100, { hasMore: false });
    expect(limit.current).toBe(500);
  });

  test('not to where an answer would likely be too large', () => {
    const limit = limitOf(500, 2_000, 2 * MIB);
    good(limit, 100, { weight: KIB });
    expect(limit.current).toBe(1_000);
  });
});

describe('the limit is halved', () => {
  test('after an answer that is too large, down to 1, where the bound is four times as high', () => {
    const limit = limitOf(500);
    const seen: number[] = [];
    while (limit.shrink(1)) seen.push(limit.current);
    expect(seen).toEqual([250, 125, 62, 31, 15, 7, 3, 1]);
    expect(limit.maxBytes).toBe(4 * 64 * MIB);
    good(limit, 10);
    expect([limit.current, limit.maxBytes]).toEqual([2, 64 * MIB]);
  });

  test('after one that is too slow, down to the given least', () => {
    const limit = limitOf(120);
    expect([limit.shrink(50), limit.current]).toEqual([true, 60]);
    expect([limit.shrink(50), limit.current]).toEqual([true, 50]);
    expect(limit.shrink(50)).toBe(false);
  });

  test('and ten more good pages are wanted then', () => {
    const limit = limitOf(500);
    good(limit, 9);
    limit.shrink(1);
    good(limit, 9);
    expect(limit.current).toBe(250);
    good(limit, 1);
    expect(limit.current).toBe(500);
  });
});

describe('a refusal that may mean the limit', () => {
  test('halves it down to 50; what passes then is the bound of all of the key', () => {
    const cap = { most: Number.POSITIVE_INFINITY };
    const [limit, other] = [limitOf(500, 2_000, 64 * MIB, cap), limitOf(500, 2_000, 64 * MIB, cap)];
    expect([limit.refused(), limit.current]).toEqual([true, 250]);
    expect(other.current).toBe(500);
    good(limit, 1);
    expect([limit.current, other.current]).toEqual([250, 250]);
    good(limit, 100);
    expect(limit.current).toBe(250);
    expect(limitOf(500, 2_000, 64 * MIB, cap).current).toBe(250);
    // What is too large later is no bound of the key's.
    expect([limit.shrink(1), limit.current]).toEqual([true, 125]);
    good(limit, 10);
    expect([limit.current, other.current]).toEqual([250, 250]);
    expect([other.shrink(1), other.current]).toEqual([true, 125]);
  });

  test('means something else at 50, and the limit is what it was', () => {
    const limit = limitOf(500);
    const seen: number[] = [];
    while (limit.refused()) seen.push(limit.current);
    expect(seen).toEqual([250, 125, 62, 50]);
    limit.acquitted();
    expect(limit.current).toBe(500);
    good(limit, 10);
    expect(limit.current).toBe(1_000);
  });

  test('means something else where the limit is low from the start', () => {
    const limit = limitOf(20);
    expect(limit.refused()).toBe(false);
    limit.acquitted();
    expect(limit.current).toBe(20);
  });
});

describe('what an answer is expected to weigh', () => {
  test('follows what came, and is never more than the bound', () => {
    const limit = limitOf(500);
    good(limit, 1, { weight: 10 * KIB });
    expect(limit.expectedBytes).toBe(500 * 10 * KIB * 1.5);
    limit.good(0, 100, false);
    expect(limit.expectedBytes).toBe(500 * 10 * KIB * 1.5);
    good(limit, 1, { weight: MIB });
    expect(limit.expectedBytes).toBe(64 * MIB);
    expect(limitOf(1).expectedBytes).toBe(64 * KIB);
  });

  test('is at least what was seen of one that found no room, until one was had', () => {
    const limit = limitOf(500);
    limit.expect(10 * MIB);
    limit.expect(5 * MIB);
    expect(limit.expectedBytes).toBe(10 * MIB);
    good(limit, 1);
    expect(limit.expectedBytes).toBe(500 * KIB * 1.5);
  });
});

test('whatever happens, it stays within its bounds, and ten good pages at a time never end its growth', () => {
  const event = fc.constantFrom('good', 'last', 'large', 'slow', 'refused', 'acquitted');
  const bounds = fc.record({
    start: fc.integer({ min: 1, max: 3_000 }),
    most: fc.integer({ min: 1, max: 3_000 }),
  });
  fc.assert(
    fc.property(bounds, fc.array(event, { maxLength: 200 }), ({ start, most }, events) => {
      const limit = limitOf(start, most);
      for (const one of events) {
        if (one === 'good') good(limit, 1);
        else if (one === 'last') good(limit, 1, { hasMore: false });
        else if (one === 'large') limit.shrink(1);
        else if (one === 'slow') limit.shrink(50);
        else if (one === 'refused') limit.refused();
        else limit.acquitted();
        expect(limit.current).toBeGreaterThanOrEqual(1);
        expect(limit.current).toBeLessThanOrEqual(Math.max(start, most));
        expect(limit.expectedBytes).toBeLessThanOrEqual(limit.maxBytes);
      }
      limit.acquitted();
      const before = limit.current;
      good(limit, 10);
      expect(limit.current).toBeGreaterThanOrEqual(before);
    }),
  );
});
