import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { backoff, jitter } from '../../src/lib/backoff.ts';

const BOUNDS = { min: 1_000, max: 300_000 };
/** The greatest that Math.random gives. */
const ALMOST_ONE = 1 - 2 ** -53;

const bounds = fc
  .tuple(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 0, max: 1_000_000 }))
  .map(([min, more]) => ({ min, max: min + more }));
const failures = fc.oneof(fc.nat({ max: 20 }), fc.nat());
const chance = fc.double({ min: 0, max: ALMOST_ONE, noNaN: true });

describe('backoff', () => {
  test.each([
    [0, 1_000],
    [1, 2_000],
    [2, 4_000],
    [8, 256_000],
    [9, 300_000],
    [40, 300_000],
    [1_000_000, 300_000],
  ])('after %i failures is bounded by %i ms', (count, bound) => {
    expect(backoff(count, BOUNDS, 0, () => 0.5)).toBe(bound / 2);
    expect(backoff(count, BOUNDS, 0, () => ALMOST_ONE)).toBeLessThanOrEqual(bound);
  });

  test('is full jitter: from 0 to the bound, in proportion to chance', () => {
    fc.assert(
      fc.property(bounds, failures, chance, ({ min, max }, count, random) => {
        const bound = Math.min(max, min * 2 ** Math.min(count, 40));
        const delay = backoff(count, { min, max }, 0, () => random);
        expect(delay).toBe(random * bound);
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(bound);
      }),
    );
  });

  test('never goes under Retry-After, which counts up to four times the maximum', () => {
    const waits = fc.oneof(fc.nat({ max: 5_000_000 }), fc.constant(Number.POSITIVE_INFINITY));
    fc.assert(
      fc.property(bounds, failures, chance, waits, (limits, count, random, retryAfter) => {
        const delay = backoff(count, limits, retryAfter, () => random);
        const without = backoff(count, limits, 0, () => random);
        expect(delay).toBeGreaterThanOrEqual(Math.min(retryAfter, limits.max * 4));
        expect(delay).toBeLessThanOrEqual(limits.max * 4);
        if (without >= retryAfter) expect(delay).toBe(without);
      }),
    );
  });

  test.each([
    [0, 0],
    [5_000, 5_000],
    [1_200_000, 1_200_000],
    [1_200_001, 1_200_000],
    [Number.POSITIVE_INFINITY, 1_200_000],
  ])('with Retry-After %d and no luck is %d', (retryAfter, delay) =>
    expect(backoff(3, BOUNDS, retryAfter, () => 0)).toBe(delay),
  );

  test('differs between replicas that failed at the same time', () => {
    const delays = new Set(Array.from({ length: 50 }, () => backoff(20, BOUNDS)));
    expect(delays.size).toBeGreaterThan(40);
  });
});

describe('jitter', () => {
  test('stays within a tenth', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000_000 }), chance, (ms, random) => {
        const jittered = jitter(ms, () => random);
        expect(jittered).toBeGreaterThanOrEqual(ms * 0.9);
        expect(jittered).toBeLessThanOrEqual(ms * 1.1);
      }),
    );
    expect(jitter(1_000, () => 0)).toBe(900);
    expect(jitter(1_000, () => 0.5)).toBe(1_000);
    expect(jitter(1_000, () => ALMOST_ONE)).toBeCloseTo(1_100, 6);
  });
});
