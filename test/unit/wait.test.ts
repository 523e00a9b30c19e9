import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Alarm, sleep, unlessAborted } from '../../src/lib/wait.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const never = new AbortController().signal;

/** Sleeps, and notes what ended it, and after how long. */
function watch(alarm: Alarm, ms: number, signal = never): { ended: string | undefined; after: number } {
  const began = performance.now();
  const seen: { ended: string | undefined; after: number } = { ended: undefined, after: 0 };
  alarm.sleep(ms, signal).then((ended) => {
    seen.ended = ended;
    seen.after = performance.now() - began;
  });
  return seen;
}

describe('a sleep', () => {
  test('lasts its time', async () => {
    const seen = watch(new Alarm(), 1_000);
    await vi.advanceTimersByTimeAsync(999);
    expect(seen.ended).toBeUndefined();
    await vi.advanceTimersByTimeAsync(1);
    expect(seen).toEqual({ ended: 'elapsed', after: 1_000 });
  });

  test.each([0, -5])('of %i ms ends at once', async (ms) => {
    const seen = watch(new Alarm(), ms);
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.ended).toBe('elapsed');
  });

  test('longer than a timer can be does not end at once', async () => {
    const seen = watch(new Alarm(), 1e12);
    await vi.advanceTimersByTimeAsync(1_000_000);
    expect(seen.ended).toBeUndefined();
  });

  test('is cut short by the signal, or not begun', async () => {
    const stopping = new AbortController();
    const alarm = new Alarm();
    const seen = watch(alarm, 1_000, stopping.signal);
    await vi.advanceTimersByTimeAsync(10);
    stopping.abort();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen).toEqual({ ended: 'aborted', after: 10 });
    const again = watch(alarm, 1_000, stopping.signal);
    await vi.advanceTimersByTimeAsync(0);
    expect(again).toEqual({ ended: 'aborted', after: 0 });
  });

  test('leaves no listener and no timer behind', async () => {
    const { signal } = new AbortController();
    const alarm = new Alarm();
    for (let n = 0; n < 50; n++) {
      watch(alarm, 10, signal);
      if (n % 2 === 0) alarm.ring();
      await vi.advanceTimersByTimeAsync(10);
      await sleep(0, signal);
    }
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('an alarm', () => {
  test('ends the sleep at hand, and only that', async () => {
    const alarm = new Alarm();
    const first = watch(alarm, 1_000);
    await vi.advanceTimersByTimeAsync(10);
    alarm.ring();
    alarm.ring();
    await vi.advanceTimersByTimeAsync(0);
    expect(first).toEqual({ ended: 'rung', after: 10 });
    const second = watch(alarm, 1_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(second).toEqual({ ended: 'elapsed', after: 1_000 });
  });

  test('that rings while nobody sleeps ends the next sleep, however often it rang', async () => {
    const alarm = new Alarm();
    for (let n = 0; n < 100; n++) alarm.ring();
    const first = watch(alarm, 1_000);
    await vi.advanceTimersByTimeAsync(0);
    expect(first).toEqual({ ended: 'rung', after: 0 });
    const second = watch(alarm, 1_000);
    await vi.advanceTimersByTimeAsync(500);
    expect(second.ended).toBeUndefined();
  });

  test('rings no louder than the signal', async () => {
    const alarm = new Alarm();
    alarm.ring();
    const seen = watch(alarm, 1_000, AbortSignal.abort());
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.ended).toBe('aborted');
  });
});

test('work is waited for unless the signal comes first, and leaves nothing on it', async () => {
  const stopping = new AbortController();
  const { signal } = stopping;
  expect(await unlessAborted(Promise.resolve('done'), signal)).toBe('done');
  await expect(unlessAborted(Promise.reject(new Error('failed')), signal)).rejects.toThrow('failed');
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  const waiting = unlessAborted(new Promise(() => {}), signal);
  stopping.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
  await expect(unlessAborted(new Promise(() => {}), signal)).rejects.toThrow('stopped');
});
