import { describe, expect, test, vi } from 'vitest';
import { never, scene, settled, useStandingClock } from './admission-scene.ts';

useStandingClock();

describe('whoever asks again after a page comes behind all who wait', () => {
  test('so that a backlog gives way', async () => {
    const { ask, begun, end } = scene({ concurrency: 1 });
    ask('a1');
    for (const id of ['a2', 'a3', 'b1']) ask(id);
    for (const id of ['a1', 'a2', 'a3', 'b1', 'a1']) {
      await settled();
      ask(id);
      await end(id);
    }
    expect(begun).toEqual(['a1 a', 'a2 a', 'a3 a', 'b1 b', 'a1 a', 'a2 a']);
  });

  test('and one that hangs keeps its own place only', async () => {
    const { ask, begun, end } = scene({ concurrency: 2 });
    ask('a1');
    await settled();
    for (const id of ['a2', 'b1', 'a3', 'b2', 'a2']) {
      ask(id);
      await settled();
      await end(id);
    }
    expect(begun).toEqual(['a1 a', 'a2 a', 'b1 b', 'a3 a', 'b2 b', 'a2 a']);
  });
});

test('a connection has one request at a time, whoever makes it', async () => {
  const { ask, begun, end, admission } = scene({ concurrency: 8 });
  ask('a1');
  const second = ask('a1');
  const status = admission.ask('a1', 1, never, async () => begun.push('status'));
  await settled();
  expect(begun).toEqual(['a1 a']);
  await end('a1');
  expect(begun).toEqual(['a1 a', 'a1 a']);
  await end('a1');
  await Promise.all([second, status]);
  expect(begun).toEqual(['a1 a', 'a1 a', 'status']);
});

test('the requests of a key are spaced to its rate when they begin, however long they waited', async () => {
  const { ask, times, end } = scene({ concurrency: 4, rate: 10 });
  for (const id of ['b1', 'b2', 'b3', 'b4']) ask(id);
  await vi.advanceTimersByTimeAsync(1_000);
  for (const id of ['a1', 'a2', 'a3', 'a4']) ask(id);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(times).toHaveLength(4);
  // All that hung end at once; who waited behind them do not begin at once.
  await Promise.all(['b1', 'b2', 'b3', 'b4'].map(end));
  await vi.advanceTimersByTimeAsync(1_000);
  const gaps = times.slice(5).map((at, n) => Math.round(at - times[n + 4]!));
  expect(gaps).toEqual([0, 100, 100]);
});

test('what is asked of a key itself waits for nobody, and counts in its rate', async () => {
  const { admission, ask, times, end } = scene({ concurrency: 1, rate: 10 });
  const begun = performance.now();
  const key = await admission.ask('a1', 1, never, async (one) => one);
  ask('b1');
  expect(await admission.ofKey(key, 'here', async () => performance.now())).toBe(begun);
  await end('b1');
  ask('a2');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(times.map((at) => Math.round(at - begun))).toEqual([0, 200]);
});

test('the rate of a key is shared among the processes, of one that is first used later too', async () => {
  const { admission, ask, begun, end } = scene({ concurrency: 8, rate: 10 });
  // After a rest one more may begin.
  await vi.advanceTimersByTimeAsync(10_000);
  ask('a1');
  admission.shareAmong(4);
  for (const id of ['a2', 'a3', 'b1', 'b2', 'b3']) ask(id);
  await vi.advanceTimersByTimeAsync(399);
  expect(begun).toEqual(['a1 a', 'a2 a', 'b1 b', 'b2 b']);
  await vi.advanceTimersByTimeAsync(1);
  expect(begun.slice(4)).toEqual(['a3 a', 'b3 b']);
  for (const id of ['a1', 'a2', 'a3']) await end(id);
  begun.length = 0;
  // Of none at all, as where nobody has been heard of, it is for this one.
  admission.shareAmong(0);
  for (const id of ['a1', 'a2', 'a3']) ask(id);
  await vi.advanceTimersByTimeAsync(500);
  expect(begun).toEqual(['a1 a', 'a2 a']);
});

describe('a key that is limited', () => {
  test('keeps back all of its connections, those too that were waiting, and no other', async () => {
    const { ask, begun, limit, end } = scene({ concurrency: 2 });
    // Who waits for room when the 429 comes is held back like the rest.
    for (const id of ['a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'b2']) ask(id);
    await settled();
    expect(begun).toEqual(['a1 a', 'a2 a']);
    await limit('a1', 5_000);
    await limit('a2', 5_000);
    await end('b1');
    await end('b2');
    expect(begun.slice(2)).toEqual(['b1 b', 'b2 b']);
    await vi.advanceTimersByTimeAsync(4_800);
    expect(begun).toHaveLength(4);
    await vi.advanceTimersByTimeAsync(300);
    expect(begun.slice(4)).toEqual(['a3 a']);
    await end('a3');
    expect(begun.slice(4)).toEqual(['a3 a', 'a4 a', 'a5 a']);
  });

  test('keeps nobody of another key waiting beyond the rate of that', async () => {
    const { ask, begun, end, limit } = scene({ rate: 10 });
    for (const id of ['a1', 'b1']) void ask(id);
    await settled();
    await limit('a1', 60_000);
    await end('b1');
    for (const id of ['a2', 'b2']) void ask(id);
    await vi.advanceTimersByTimeAsync(100);
    await settled();
    expect(begun).toEqual(['a1 a', 'b1 b', 'b2 b']);
  });

  test('is limited once by those that are refused together: the wait does not grow with their number', async () => {
    const { ask, begun, limit } = scene({ concurrency: 8, backoff: { min: 100, max: 1_000_000 } });
    const ids = Array.from({ length: 8 }, (_, n) => `a${n}`);
    for (const id of ids) ask(id);
    await settled();
    for (const id of ids) await limit(id);
    expect(begun).toHaveLength(8);
    ask('a0');
    // The first wait is at most 100 ms, by full jitter.
    await vi.advanceTimersByTimeAsync(101);
    expect(begun).toHaveLength(9);
    // The second one is at most 200 ms.
    await limit('a0');
    ask('a0');
    await vi.advanceTimersByTimeAsync(201);
    expect(begun).toHaveLength(10);
  });

  test('waits longer with every refusal in a row; one that passes ends that, and other failures are none', async () => {
    vi.spyOn(Math, 'random').mockReturnValue(0.99);
    const { ask, begun, end, limit, fail } = scene({ backoff: { min: 100, max: 1_000_000 } });
    const waits: number[] = [];
    for (const ends of [limit, limit, limit, end, fail, limit]) {
      const asked = performance.now();
      ask('a1');
      await settled();
      while (begun.length === 0) await vi.advanceTimersByTimeAsync(1);
      waits.push(performance.now() - asked);
      begun.length = 0;
      await ends('a1');
    }
    expect(waits).toEqual([0, 99, 198, 396, 0, 0]);
    ask('a1');
    await vi.advanceTimersByTimeAsync(99);
    expect(begun).toHaveLength(1);
  });
});

describe('memory', () => {
  test('is held from the request until it is released, and waited for', async () => {
    const { ask, begun, end, admission } = scene({ budget: 100, concurrency: 8 });
    const held = await admission.request('a1', 80, never, async (_, reservation) => reservation);
    ask('a2', { bytes: 50 });
    await settled();
    expect(begun).toEqual([]);
    held.release();
    await settled();
    expect(begun).toEqual(['a2 a']);
    await end('a2');
  });

  test('comes back with an answer that is not kept', async () => {
    const { ask, begun, admission } = scene({ budget: 100 });
    expect(await admission.ask('a1', 100, never, async () => 'paired')).toBe('paired');
    ask('a2', { bytes: 100 });
    await settled();
    expect(begun).toEqual(['a2 a']);
  });

  test('comes back where a request fails', async () => {
    const { ask, begun, admission } = scene({ budget: 100 });
    await expect(
      admission.request('a1', 100, never, async () => {
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    ask('a2', { bytes: 100 });
    await settled();
    expect(begun).toEqual(['a2 a']);
  });
});

test('whoever is aborted while waiting leaves nothing behind', async () => {
  const { ask, begun, end } = scene({ concurrency: 1 });
  ask('a1');
  await settled();
  const leaving = new AbortController();
  const waiting = [ask('a2', leaving), ask('b1', leaving), ask('a1', leaving)];
  ask('a3');
  leaving.abort(new Error('gone'));
  for (const one of waiting) await expect(one).rejects.toThrow('gone');
  await end('a1');
  expect(begun).toEqual(['a1 a', 'a3 a']);
  await end('a3');
  ask('a1');
  await settled();
  expect(begun.at(-1)).toBe('a1 a');
});

test('whoever is aborted once it has begun takes nobody out of the line', async () => {
  const { ask, begun, end } = scene({ concurrency: 1 });
  const leaving = new AbortController();
  ask('a1', leaving);
  ask('a2');
  await settled();
  leaving.abort(new Error('gone'));
  await end('a1');
  expect(begun).toEqual(['a1 a', 'a2 a']);
});
