import { expect, test } from 'vitest';
import type { Progress } from '../../src/store/progress.ts';
import { HolderWatch } from '../../src/sync/holder-watch.ts';

const failed = (more: Partial<Progress>): Progress => ({
  ...{ caughtUp: false, leased: true, failedSince: true, putBack: false },
  ...{ failures: 1, lastErrorKind: 'not_found', lastError: 'HTTP 404' },
  ...more,
});
const of = (...all: (Progress | undefined)[]) => {
  const watch = new HolderWatch({ maxFailures: 3 });
  return all.map((progress) => watch.isHopeless(progress));
};

test('what parks is told at once, everything else after so many failures', () => {
  expect(of(failed({}))).toEqual([true]);
  const passes = (failures: number) => failed({ lastErrorKind: 'timeout', failures });
  expect(of(passes(1), passes(2), passes(3))).toEqual([false, false, true]);
});

test('what nobody holds is taken, whatever came of it before, and what is not known never comes', () => {
  expect(of(failed({ leased: false }))).toEqual([false]);
  expect(of(undefined)).toEqual([true]);
});

test('a failure that may be one of before does not count, the second does', () => {
  const unsure = (failures: number) => failed({ failedSince: false, failures });
  expect(of(unsure(7), unsure(8), unsure(9))).toEqual([false, false, true]);
  // A page went well between.
  const none = failed({ failedSince: false, failures: 0, lastErrorKind: null });
  expect(of(unsure(7), none, unsure(1), unsure(2))).toEqual([false, false, false, true]);
});
