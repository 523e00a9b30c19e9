import type { ReplicaError } from '../errors/errors.ts';
import { type BackoffBounds, backoff, jitter } from '../lib/backoff.ts';

/** Empty polls before the interval doubles. */
const POLLS_PER_STEP = 4;
/** Pauses after polls that did not bring what an event announced, in milliseconds. */
const FOLLOW_UPS = [1_000, 5_000];

/** How often a quiet connection is polled: the interval doubles towards the idle one after each four empty polls,
 * and one change brings it back. Milliseconds. */
export class Pace {
  readonly #interval: number;
  readonly #idle: number;
  #empty = 0;
  #followUps: number[] = [];

  constructor(interval: number, idle: number) {
    this.#interval = interval;
    this.#idle = Math.max(interval, idle);
  }

  /** Something is announced: polls that bring nothing are followed by others soon. */
  expect(): void {
    this.#followUps = [...FOLLOW_UPS];
  }

  /** The pause after a poll that ended with nothing more to fetch, with ±10 % jitter. */
  after(changed: boolean): number {
    if (changed) {
      this.#empty = 0;
      this.#followUps = [];
    } else {
      this.#empty++;
    }
    const doublings = Math.floor(this.#empty / POLLS_PER_STEP);
    const pause = jitter(Math.min(this.#interval * 2 ** doublings, this.#idle));
    return Math.min(pause, this.#followUps.shift() ?? pause);
  }
}

/** The longest pause that a turn sets, good or bad. One that is longer was set before the database's clock was put back. */
export function longestPause(settings: {
  readonly pollInterval: number;
  readonly pollIntervalIdle: number;
  readonly backoff: BackoffBounds;
}): number {
  const { pollInterval, pollIntervalIdle, backoff } = settings;
  return Math.max(pollInterval * 1.1, pollIntervalIdle * 1.1, backoff.max * 4);
}

/** The pause after so many failures in a row, in milliseconds (R13): of what parks the longest, else a backoff; a
 * Retry-After is a floor of both. */
export function pauseAfter(
  { verdict, retryAfter = 0 }: ReplicaError,
  failures: number,
  bounds: BackoffBounds,
): number {
  if (verdict === 'park') return Math.max(bounds.max, Math.min(retryAfter, bounds.max * 4));
  return backoff(failures - 1, bounds, retryAfter);
}

/** However often it has failed, in milliseconds: who has mended what parked it, and says so, does not wait for long. */
const HEARD_WITHIN = 5_000;

/** How much of that nothing cuts short, in milliseconds: what the upstream asked for, and so much that many events do not
 * make many attempts. */
export function leastPauseAfter(
  { retryAfter = 0 }: ReplicaError,
  failures: number,
  { min, max }: BackoffBounds,
): number {
  return Math.max(Math.min(retryAfter, max * 4), Math.min(min * failures, max, Math.max(min, HEARD_WITHIN)));
}
