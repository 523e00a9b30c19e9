/** Bounds of the delay between attempts, in milliseconds. */
export interface BackoffBounds {
  readonly min: number;
  readonly max: number;
}

/**
 * The delay before the next attempt after `failures` in a row: full jitter below a bound that doubles from `min`
 * to `max`, so that replicas do not come back in lockstep. A `Retry-After` is a floor, itself bounded by four
 * times `max` (R13).
 * @returns milliseconds.
 */
export function backoff(
  failures: number,
  bounds: BackoffBounds,
  retryAfter = 0,
  random: () => number = Math.random,
): number {
  const bound = Math.min(bounds.max, bounds.min * 2 ** failures);
  return Math.max(random() * bound, Math.min(retryAfter, bounds.max * 4));
}

/** A value within ±10 % of `ms`. */
export function jitter(ms: number, random: () => number = Math.random): number {
  return ms * (0.9 + 0.2 * random());
}
