import { describe, expect, test, vi } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { never, scene, settled, useStandingClock } from './admission-scene.ts';

/* What lets everybody else go first: verifications and attachments. */

useStandingClock();

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

  /** A process with room for one request, which is in hand, and what waits behind it. */
  const crowded = async (connectionId: string) => {
    const it = scene({ concurrency: 1 });
    it.ask('a1');
    await settled();
    return { ...it, behind: laterOf(it)(connectionId) };
  };

  test('goes behind all live requests of its key, and of others while there is no room', async () => {
    const { ask, begun, end, behind } = await crowded('a9');
    for (const id of ['b1', 'a2']) ask(id);
    for (const id of ['a1', 'b1', 'a2']) {
      await settled();
      expect(begun).not.toContain('behind');
      await end(id);
    }
    await behind;
    expect(begun).toEqual(['a1 a', 'b1 b', 'a2 a', 'behind']);
  });

  test('goes behind the live requests of other keys that came later, hurried or not', async () => {
    const it = scene({ concurrency: 1 });
    const { ask, begun, end } = it;
    ask('a1');
    await settled();
    const [behind, other] = [laterOf(it)('a9'), laterOf(it)('a8')];
    // Whoever is not urgent hurries nobody.
    const last = laterOf(it)('a8');
    ask('b1');
    ask('a9');
    ask('b2');
    await settled();
    await end('a1');
    await end('b1');
    await behind;
    expect(begun).toEqual(['a1 a', 'b1 b', 'behind', 'b2 b']);
    for (const id of ['b2', 'a9']) await end(id);
    await Promise.all([other, last]);
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

  test('takes the turn of the live request of its own connection that waits for it', async () => {
    const { ask, begun, end, behind } = await crowded('a9');
    for (const id of ['a2', 'a9', 'a3']) ask(id);
    await settled();
    await end('a1');
    // A backlog of others that never ends keeps neither of the two.
    ask('a1');
    await end('a2');
    await behind;
    ask('a2');
    await settled();
    expect(begun).toEqual(['a1 a', 'a2 a', 'behind', 'a3 a']);
    for (const id of ['a3', 'a1']) await end(id);
    expect(begun.slice(4)).toEqual(['a1 a', 'a9 a']);
  });

  test('leaves nothing behind where it is aborted in that turn', async () => {
    const { admission, ask, begun, end } = scene({ concurrency: 1 });
    ask('a1');
    await settled();
    const giveUp = new AbortController();
    const behind = admission.request('a9', 1, giveUp.signal, async () => {}, 'behind');
    for (const id of ['a9', 'a2']) ask(id);
    giveUp.abort(new Error('given up'));
    await expect(behind).rejects.toThrow('given up');
    for (const id of ['a1', 'a2']) await end(id);
    expect(begun).toEqual(['a1 a', 'a2 a', 'a9 a']);
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

  test('is no probe after a 429 where others ask, and its own 429 holds the key back', async () => {
    const s = scene({ concurrency: 2 });
    void s.ask('a1');
    await settled();
    await s.end('a1');
    s.begun.length = 0;
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

  test('is the probe of a key with which nobody else asks, as on a worker that holds none of its connections', async () => {
    const s = scene({ concurrency: 8 });
    const first = beside(s, 'a1');
    await settled();
    await first.limit();
    const later = ['a2', 'a3', 'a4'].map((id) => beside(s, id));
    await vi.advanceTimersByTimeAsync(1_999);
    expect(s.begun).toEqual(['a1 beside']);
    await vi.advanceTimersByTimeAsync(1);
    await settled();
    expect(s.begun).toEqual(['a1 beside', 'a2 beside']);
    await later[0]!.begins();
    expect(s.begun).toEqual(['a1 beside', 'a2 beside', 'a3 beside', 'a4 beside']);
  });

  test('is the probe too where the last of those who asked has gone', async () => {
    const s = scene({ concurrency: 2 });
    void s.ask('a1');
    await settled();
    await s.limit('a1', 1_000);
    beside(s, 'a2');
    await vi.advanceTimersByTimeAsync(119_999);
    expect(s.begun).toEqual(['a1 a']);
    await vi.advanceTimersByTimeAsync(1);
    await settled();
    expect(s.begun).toEqual(['a1 a', 'a2 beside']);
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
