/** An admission, on a clock that stands unless it is moved. */
import { afterEach, beforeEach, vi } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { Admission } from '../../src/sync/admission.ts';
import type { ApiKey } from '../../src/upstream/api-key.ts';

export function useStandingClock(): void {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
}

export const never = new AbortController().signal;
/** Lets what is settled go on, without letting time pass. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
const keyOf = (value: string): ApiKey => ({ value, reload: async () => {} });

/** An admission for connections `a1`, `a2`, … of one key and `b1`, `b2`, … of another, and who is let in, in order. */
export function scene({
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
  const fail = async (connectionId: string) => {
    open.get(connectionId)!.fail(new ReplicaError('upstream', { where: 'here', status: 500 }));
    await settled();
  };
  return { admission, ask, begun, times, end, limit, fail };
}
