import { singleFlight } from './single-flight.ts';

/** How much longer than its work a result is kept. */
const REST = 20;

/**
 * Keeps the last result for a while, so that costly work takes a twentieth of the time at most, however often it is
 * asked for. A failure is not kept.
 * @param least how long it is kept at least, in milliseconds.
 */
export function seldom<T>(work: () => Promise<T>, least: number): () => Promise<T> {
  let last: { readonly result: T; readonly until: number } | undefined;
  const once = singleFlight(async () => {
    const startedAt = performance.now();
    const result = await work();
    const now = performance.now();
    last = { result, until: now + Math.max(least, (now - startedAt) * REST) };
    return result;
  });
  return async () => (last !== undefined && performance.now() < last.until ? last.result : await once());
}
