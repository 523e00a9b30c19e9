import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ReplicaError } from '../../src/errors.ts';
import { Admission } from '../../src/sync/admission.ts';
import type { ApiKey } from '../../src/upstream/client.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const never = new AbortController().signal;
/** Lets what is settled go on, without letting time pass. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
const keyOf = (value: string): ApiKey => ({ value, reload: async () => false });

/** An admission for connections `a1`, `a2`, … of one key and `b1`, `b2`, … of another, and who is let in, in order. */
function scene({
  concurrency = 2,
  rate = Number.POSITIVE_INFINITY,
  budget = 1_000_000,
  backoff = { min: 1_000, max: 60_000 },
}) {
  const keys = { a: keyOf('a'), b: keyOf('b') };
  const admission = new Admission({
    concurrency,
    rate,
    budget,
    backoff,
    keyOf: (connectionId) => keys[connectionId[0] as 'a' | 'b'],
  });
  const begun: string[] = [];
  const times: number[] = [];
  const open = new Map<string, { end: () => void; fail: (error: Error) => void }>();
  const ask = (connectionId: string, { bytes = 1, signal = never } = {}) => {
    const request = admission.request(connectionId, bytes, signal, async (key, held) => {
      begun.push(`${connectionId} ${key.value}`);
      times.push(performance.now());
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      open.set(connectionId, { end: resolve, fail: reject });
      await promise;
      held.release();
    });
    request.catch(() => {});
    return request;
  };
  const end = async (connectionId: string) => {
    open.get(connectionId)!.end();
    await settled();
  };
  const limit = async (connectionId: string, retryAfter?: number) => {
    open
      .get(connectionId)!
      .fail(new ReplicaError('rate_limited', { where: 'here', status: 429, retryAfter }));
    await settled();
  };
  return { admission, ask, begun, times, end, limit };
}

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
  await end('a1');
  for (const one of waiting) await expect(one).rejects.toThrow('gone');
  expect(begun).toEqual(['a1 a', 'a3 a']);
  await end('a3');
  ask('a1');
  await settled();
  expect(begun.at(-1)).toBe('a1 a');
});

describe('what is not urgent', () => {
  const laterOf =
    ({ admission, begun }: ReturnType<typeof scene>) =>
    (connectionId: string) =>
      admission.request(
        connectionId,
        1,
        never,
        async (_, held) => {
          begun.push('behind');
          held.release();
        },
        'behind',
      );

  test('goes behind all live requests of its key, and of others while there is no room', async () => {
    const it = scene({ concurrency: 1 });
    const { ask, begun, end } = it;
    const later = laterOf(it);
    ask('a1');
    await settled();
    const behind = later('a9');
    for (const id of ['b1', 'a2']) ask(id);
    for (const id of ['a1', 'b1', 'a2']) {
      await settled();
      expect(begun).not.toContain('behind');
      await end(id);
    }
    await behind;
    expect(begun).toEqual(['a1 a', 'b1 b', 'a2 a', 'behind']);
  });

  test('is let in where only another key keeps its live requests waiting', async () => {
    const it = scene({ concurrency: 2 });
    const { ask, begun, limit } = it;
    const later = laterOf(it);
    ask('a1');
    await settled();
    await limit('a1', 60_000);
    ask('a2');
    await later('b1');
    expect(begun).toEqual(['a1 a', 'behind']);
  });
});

describe('what goes beside the others', () => {
  /** A download of a connection: begun, and ended by the caller. */
  function beside({ admission, begun }: ReturnType<typeof scene>, connectionId: string, signal = never) {
    const answer = Promise.withResolvers<void>();
    const request = admission.beside(connectionId, signal, async () => {
      begun.push(`${connectionId} beside`);
      await answer.promise;
    });
    request.catch(() => {});
    return {
      begins: async () => {
        answer.resolve();
        await settled();
      },
      limit: async () => {
        answer.reject(new ReplicaError('rate_limited', { where: 'here', status: 429, retryAfter: 2_000 }));
        await settled();
      },
      request,
    };
  }

  test('takes no slot of the process, nor the turn of its own connection', async () => {
    const s = scene({ concurrency: 1 });
    for (const id of ['a1', 'a2', 'a3']) beside(s, id);
    await settled();
    void s.ask('a1');
    await settled();
    expect(s.begun).toEqual(['a1 beside', 'a2 beside', 'a3 beside', 'a1 a']);
  });

  test('waits for everybody else of its key', async () => {
    const s = scene({ concurrency: 1, rate: 1 });
    void s.ask('a1');
    beside(s, 'a2');
    void s.admission.request('a3', 1, never, async () => void s.begun.push('a3 behind'), 'behind');
    void s.ask('a4');
    await settled();
    await s.end('a1');
    for (let i = 0; i < 4; i++) {
      await vi.advanceTimersByTimeAsync(1_000);
      await settled();
      if (i === 0) await s.end('a4');
    }
    expect(s.begun).toEqual(['a1 a', 'a4 a', 'a3 behind', 'a2 beside']);
  });

  test('is never the probe after a 429, and its own 429 holds the key back', async () => {
    const s = scene({ concurrency: 2 });
    const first = beside(s, 'a1');
    await settled();
    await first.limit();
    beside(s, 'a2');
    void s.ask('a3');
    await vi.advanceTimersByTimeAsync(2_000);
    await settled();
    expect(s.begun).toEqual(['a1 beside', 'a3 a']);
    // Two at a time are all there are: the rate is found again.
    await s.end('a3');
    expect(s.begun).toEqual(['a1 beside', 'a3 a', 'a2 beside']);
  });

  test('leaves the line when it is told to', async () => {
    const s = scene({ rate: 1 });
    void s.ask('a1');
    const stopping = new AbortController();
    const { request } = beside(s, 'a2', stopping.signal);
    await settled();
    stopping.abort(new Error('enough'));
    await expect(request).rejects.toThrow('enough');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(s.begun).toEqual(['a1 a']);
  });
});
