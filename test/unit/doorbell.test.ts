import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Doorbell } from '../../src/sync/doorbell.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const never = new AbortController().signal;
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

/** Rests, and notes how that ended, and after how long. */
function rest(bell: Doorbell, ms: number, signal = never): { ended: boolean | undefined; after: number } {
  const began = performance.now();
  const seen: { ended: boolean | undefined; after: number } = { ended: undefined, after: 0 };
  bell.rest(ms, signal).then((ended) => {
    seen.ended = ended;
    seen.after = performance.now() - began;
  });
  return seen;
}

describe('a rest', () => {
  test('lasts its time where nothing rings, and no longer where events are not heeded', async () => {
    const bell = new Doorbell();
    const seen = rest(bell, 1_000);
    await pass(1_000);
    expect(seen).toEqual({ ended: true, after: 1_000 });
    bell.deafen(5_000);
    const again = rest(bell, 1_000);
    await pass(1_000);
    expect(again).toEqual({ ended: true, after: 1_000 });
  });

  test('ends when it rings, or at once where it rang before', async () => {
    const bell = new Doorbell();
    const seen = rest(bell, 1_000);
    await pass(10);
    bell.ring();
    bell.ring();
    await pass(0);
    expect(seen).toEqual({ ended: true, after: 10 });
    bell.ring();
    const next = rest(bell, 1_000);
    await pass(0);
    expect(next).toEqual({ ended: true, after: 0 });
    const last = rest(bell, 1_000);
    await pass(999);
    expect(last.ended).toBeUndefined();
  });

  test('ends by the signal, also while events wait to be heeded', async () => {
    const bell = new Doorbell();
    const stopping = new AbortController();
    bell.deafen(1_000);
    bell.ring();
    const seen = rest(bell, 10_000, stopping.signal);
    await pass(10);
    stopping.abort();
    await pass(0);
    expect(seen).toEqual({ ended: false, after: 10 });
  });
});

describe('events that come too early', () => {
  test('end the rest as soon as they may, however many there are', async () => {
    const bell = new Doorbell();
    bell.deafen(300);
    const seen = rest(bell, 10_000);
    for (let n = 0; n < 20; n++) {
      bell.ring();
      await pass(10);
    }
    expect(seen.ended).toBeUndefined();
    await pass(200);
    expect(seen).toEqual({ ended: true, after: 300 });
  });

  test('do not make the rest longer than it would be', async () => {
    const bell = new Doorbell();
    bell.deafen(300);
    const seen = rest(bell, 100);
    bell.ring();
    await pass(99);
    expect(seen.ended).toBeUndefined();
    await pass(1);
    expect(seen).toEqual({ ended: true, after: 100 });
  });

  test('keep nobody from looking at once for a reason of its own', async () => {
    const bell = new Doorbell();
    bell.deafen(10_000);
    const seen = rest(bell, 60_000);
    await pass(5);
    bell.shake();
    await pass(0);
    expect(seen).toEqual({ ended: true, after: 5 });
    bell.ring();
    const next = rest(bell, 60_000);
    await pass(9_000);
    expect(next.ended).toBeUndefined();
  });
});

test('what is announced is owed until a poll that began later has gone well', async () => {
  const bell = new Doorbell();
  expect(bell.isOwed).toBe(false);
  bell.ring();
  expect(bell.isOwed).toBe(true);
  await pass(1);
  const begun = performance.now();
  await pass(1);
  bell.ring();
  await pass(1);
  bell.answered(begun);
  expect(bell.isOwed).toBe(true);
  await pass(1);
  bell.answered(performance.now());
  expect(bell.isOwed).toBe(false);
  bell.shake();
  expect(bell.isOwed).toBe(false);
});
