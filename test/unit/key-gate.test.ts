import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { KeyGate } from '../../src/sync/key-gate.ts';

const FULL = 8;

/** A gate at a rate that is nowhere in the way. */
const quick = () => new KeyGate(Number.POSITIVE_INFINITY, FULL);

/** Lets in as many as may begin now. */
function fill(gate: KeyGate, now: number, most = 100): number {
  let count = 0;
  for (; count < most && gate.opensIn(now) <= 0; count++) gate.enter(now);
  return count;
}

/** One request after the other ends. */
function leave(gate: KeyGate, count: number, outcome: Parameters<KeyGate['leave']>[0], now: number): void {
  for (let n = 0; n < count; n++) gate.leave(outcome, now);
}

describe('the rate', () => {
  test('is kept to, whenever they come and however late they are let in', () => {
    const scene = fc.record({
      rate: fc.constantFrom(1, 7, 100, 1_000),
      // Between one attempt and the next: a timer that is late, or a rest.
      steps: fc.array(fc.oneof(fc.double({ min: 0, max: 3, noNaN: true }), fc.nat(3_000)), {
        maxLength: 300,
      }),
    });
    fc.assert(
      fc.property(scene, ({ rate, steps }) => {
        const gate = new KeyGate(rate, FULL);
        const times: number[] = [];
        let now = 12_345;
        for (const step of steps) {
          now += step;
          if (gate.opensIn(now) > 0) now += gate.opensIn(now);
          gate.enter(now);
          times.push(now);
          gate.leave('passed', now);
        }
        for (const from of times) {
          const within = times.filter((at) => at >= from && at < from + 1_000).length;
          // One at the very beginning, and one that made up for being late.
          expect(within).toBeLessThanOrEqual(rate + 2);
        }
      }),
    );
  });

  test('makes nobody wait who comes rarely', () => {
    const gate = new KeyGate(10, FULL);
    for (let now = 0; now < 2_000; now += 100) {
      expect(gate.opensIn(now)).toBeLessThanOrEqual(0);
      gate.enter(now);
      gate.leave('passed', now);
    }
  });

  test('is shared by the processes that there are, and is whole again when they have gone', () => {
    const gate = new KeyGate(10, FULL);
    gate.shareAmong(4);
    fill(gate, 1_000);
    expect(gate.opensIn(1_000)).toBeCloseTo(400);
    gate.shareAmong(1);
    fill(gate, 1_400);
    expect(gate.opensIn(1_400)).toBeCloseTo(100);
  });

  test('says how long the wait is', () => {
    const gate = new KeyGate(10, FULL);
    fill(gate, 1_000);
    expect(gate.opensIn(1_000)).toBeCloseTo(100);
    expect(gate.opensIn(1_060)).toBeCloseTo(40);
  });
});

describe('after a 429', () => {
  /** A gate at 10,000 ms with eight in flight, of which one was refused for a second. */
  function limited(): KeyGate {
    const gate = quick();
    fill(gate, 10_000, FULL);
    gate.leave({ limitedFor: 1_000 }, 10_000);
    return gate;
  }

  test('none begins until the time is over and the others have ended; then one, two, four, and all', () => {
    const gate = limited();
    expect(gate.opensIn(20_000)).toBe(Number.POSITIVE_INFINITY);
    leave(gate, 7, 'failed', 10_100);
    expect(gate.opensIn(10_400)).toBe(600);
    expect(fill(gate, 11_000)).toBe(1);
    expect(gate.opensIn(1e9)).toBe(Number.POSITIVE_INFINITY);
    leave(gate, 1, 'passed', 11_010);
    expect(fill(gate, 11_010)).toBe(2);
    leave(gate, 1, 'passed', 11_020);
    expect(fill(gate, 11_020)).toBe(3);
    leave(gate, 1, 'passed', 11_030);
    expect(fill(gate, 11_030)).toBeGreaterThan(FULL);
  });

  test('those that were under way say nothing about the time after it', () => {
    const gate = limited();
    leave(gate, 7, 'passed', 10_500);
    expect(fill(gate, 11_000)).toBe(1);
  });

  test('a shorter wait does not shorten a longer one', () => {
    const gate = limited();
    gate.leave({ limitedFor: 10 }, 10_000);
    leave(gate, 6, 'failed', 10_000);
    expect(gate.opensIn(10_000)).toBe(1_000);
  });

  test('a probe that fails is followed by another one, not by more', () => {
    const gate = limited();
    leave(gate, 7, 'failed', 10_000);
    expect(fill(gate, 11_000)).toBe(1);
    gate.leave('failed', 11_010);
    expect(fill(gate, 11_010)).toBe(1);
    gate.leave({ limitedFor: 500 }, 11_020);
    expect(gate.opensIn(11_020)).toBe(500);
    expect(fill(gate, 11_520)).toBe(1);
  });
});
