import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Pace } from '../../src/sync/pace.ts';

/** A pace whose own pauses are far longer than those after an event. */
const quiet = () => new Pace(60_000, 600_000);

test('a poll that does not bring what was announced is followed by others after 1 s and 5 s', () => {
  const pace = quiet();
  pace.expect();
  expect([pace.after(false), pace.after(false)]).toEqual([1_000, 5_000]);
  expect(pace.after(false)).toBeGreaterThan(50_000);
});

test('one that brings something is not', () => {
  const pace = quiet();
  pace.expect();
  expect(pace.after(true)).toBeGreaterThan(50_000);
  expect(pace.after(false)).toBeGreaterThan(50_000);
  pace.expect();
  pace.after(false);
  expect(pace.after(true)).toBeGreaterThan(50_000);
});

test('several announcements are one; one that comes later begins anew', () => {
  const pace = quiet();
  for (let n = 0; n < 100; n++) pace.expect();
  expect([pace.after(false), pace.after(false)]).toEqual([1_000, 5_000]);
  expect(pace.after(false)).toBeGreaterThan(50_000);
  pace.expect();
  expect(pace.after(false)).toBe(1_000);
  pace.expect();
  expect([pace.after(false), pace.after(false)]).toEqual([1_000, 5_000]);
});

test('nobody waits longer for an event than without one', () => {
  const pace = new Pace(200, 400);
  pace.expect();
  for (let polls = 0; polls < 3; polls++) expect(pace.after(false)).toBeLessThanOrEqual(220);
});

test('at most two polls are added by an announcement, whatever comes', () => {
  const step = fc.constantFrom('announce', 'empty', 'change');
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pace = quiet();
      let announced = 0;
      let soon = 0;
      for (const one of steps) {
        if (one === 'announce') {
          pace.expect();
          announced++;
        } else if (pace.after(one === 'change') < 50_000) soon++;
      }
      expect(soon).toBeLessThanOrEqual(2 * announced);
    }),
  );
});
