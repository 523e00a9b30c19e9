import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { leastPauseAfter, longestPause, Pace, pauseAfter } from '../../src/sync/pace.ts';

const SECOND = 1_000;

/** The interval behind a pause, given that it is one of these. */
function interval(pause: number, among: readonly number[]): number {
  const fitting = among.filter((ms) => pause >= ms * 0.9 && pause <= ms * 1.1);
  if (fitting.length !== 1) throw new Error(`${pause} fits ${fitting.length} intervals`);
  return fitting[0]!;
}

function intervals(pace: Pace, polls: readonly boolean[], among: readonly number[]): number[] {
  return polls.map((changed) => interval(pace.after(changed), among) / SECOND);
}

const empty = (polls: number) => new Array<boolean>(polls).fill(false);

describe('the pause', () => {
  const steps = [15, 30, 60].map((seconds) => seconds * SECOND);

  test('doubles towards the idle one after each four empty polls', () => {
    const pace = new Pace(15 * SECOND, 60 * SECOND);
    const expected = [15, 15, 15, 30, 30, 30, 30, 60, 60, 60, 60, 60, 60];
    expect(intervals(pace, empty(13), steps)).toEqual(expected);
  });

  test('is back after one change', () => {
    const pace = new Pace(15 * SECOND, 60 * SECOND);
    intervals(pace, empty(20), steps);
    expect(intervals(pace, [true, ...empty(4)], steps)).toEqual([15, 15, 15, 15, 30]);
  });

  test('does not grow while something changes now and then', () => {
    const pace = new Pace(15 * SECOND, 60 * SECOND);
    const polls = Array.from({ length: 40 }, (_, index) => index % 4 === 0);
    expect(new Set(intervals(pace, polls, steps))).toEqual(new Set([15]));
  });

  test('ends at the idle one where that is no power of two away', () => {
    const pace = new Pace(15 * SECOND, 50 * SECOND);
    expect(intervals(pace, empty(12), [15_000, 30_000, 50_000]).at(-1)).toBe(50);
  });

  test.each([
    [15, 15],
    [15, 5],
  ])('stays where the idle one is not longer (%i, %i)', (seconds, idle) => {
    const pace = new Pace(seconds * SECOND, idle * SECOND);
    expect(new Set(intervals(pace, empty(12), [seconds * SECOND]))).toEqual(new Set([seconds]));
  });

  test('is within a tenth of both bounds after any polls, and stays so for ever', () => {
    const ms = fc.integer({ min: 100, max: 600_000 });
    fc.assert(
      fc.property(ms, ms, fc.array(fc.boolean(), { maxLength: 300 }), (least, idle, polls) => {
        const pace = new Pace(least, idle);
        for (const changed of polls) {
          const pause = pace.after(changed);
          expect(pause).toBeGreaterThanOrEqual(least * 0.9);
          expect(pause).toBeLessThanOrEqual((changed ? least : Math.max(least, idle)) * 1.1);
        }
      }),
    );
    const quiet = new Pace(100, 200);
    for (let polls = 0; polls < 10_000; polls++) quiet.after(false);
    expect(quiet.after(false)).toBeLessThanOrEqual(220);
  });

  test('is not the same every time', () => {
    const pace = new Pace(15 * SECOND, 15 * SECOND);
    expect(new Set(empty(50).map(() => pace.after(false))).size).toBeGreaterThan(40);
  });
});

test.each([
  ['between polls', 100, 10, 1, 110],
  ['between idle polls', 10, 100, 1, 110],
  ['that a Retry-After may ask for', 10, 20, 100, 400],
])('the longest pause is the longest one %s', (_, pollInterval, pollIntervalIdle, max, longest) => {
  const settings = { pollInterval, pollIntervalIdle, backoff: { min: 1, max } };
  expect(longestPause(settings)).toBeCloseTo(longest);
});

describe('the pause after a failure', () => {
  const bounds = { min: 1 * SECOND, max: 60 * SECOND };
  const failure = (kind: 'network' | 'unauthorized', retryAfter?: number) =>
    new ReplicaError(kind, { where: 'here', ...(retryAfter !== undefined && { retryAfter }) });

  test.each([
    ['what parks', failure('unauthorized'), 1, 60],
    ['what parks, with a shorter Retry-After', failure('unauthorized', 30 * SECOND), 1, 60],
    ['what parks, with a longer one', failure('unauthorized', 90 * SECOND), 1, 90],
    ['what parks, with an absurd one', failure('unauthorized', 9_000 * SECOND), 1, 240],
    ['a Retry-After above any backoff', failure('network', 90 * SECOND), 1, 90],
    ['an absurd one', failure('network', 9_000 * SECOND), 1, 240],
  ])('%s', (_, error, failures, seconds) => {
    expect(pauseAfter(error, failures, bounds)).toBe(seconds * SECOND);
  });

  test('is a backoff of which the first is below BACKOFF_MIN', () => {
    const pauses = (failures: number) =>
      Array.from({ length: 200 }, () => pauseAfter(failure('network'), failures, bounds));
    expect(Math.max(...pauses(1))).toBeLessThanOrEqual(SECOND);
    expect(Math.max(...pauses(2))).toBeGreaterThan(SECOND);
    expect(Math.max(...pauses(9))).toBeLessThanOrEqual(60 * SECOND);
  });

  test.each([
    ['the first', failure('network'), 1, 1],
    ['the third', failure('network'), 3, 3],
    ['any later one', failure('network'), 500, 5],
    ['one of what has been parked for long', failure('unauthorized'), 50_000, 5],
    ['with a Retry-After', failure('network', 90 * SECOND), 3, 90],
    ['with an absurd one', failure('network', 9_000 * SECOND), 3, 240],
  ])('is not cut short below its least: %s', (_, error, failures, seconds) => {
    expect(leastPauseAfter(error, failures, bounds)).toBe(seconds * SECOND);
  });

  test('is not cut short below BACKOFF_MIN, nor is one that is shorter than that made longer', () => {
    const least = (min: number, max: number) =>
      leastPauseAfter(failure('network'), 50_000, { min: min * SECOND, max: max * SECOND });
    expect([least(20, 60), least(1, 2)]).toEqual([20 * SECOND, 2 * SECOND]);
  });
});
