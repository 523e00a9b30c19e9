import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { VerifyPace } from '../../src/verify/pace.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('requests are spaced by key, for all processes together; a rest makes no burst', async () => {
  const pace = new VerifyPace(2, () => 3);
  const [one, other] = [fixedKey('pa_live_one'), fixedKey('pa_live_other')];
  const { signal } = new AbortController();
  const begun = performance.now();
  const turns: number[] = [];
  const ask = (key = one) =>
    void pace.turn(key, signal).then(() => turns.push(Math.round(performance.now() - begun)));
  ask();
  ask();
  ask(other);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(turns).toEqual([0, 0, 1_500]);
  ask();
  ask();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(turns.slice(3)).toEqual([10_000, 11_500]);
});
