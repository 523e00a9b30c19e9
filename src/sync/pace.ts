import { jitter } from '../lib/backoff.ts';

/** Empty polls before the interval doubles. */
const POLLS_PER_STEP = 4;

/** How often a quiet connection is polled: the interval doubles towards the idle one after each four empty polls,
 * and one change brings it back. Milliseconds. */
export class Pace {
  readonly #interval: number;
  readonly #idle: number;
  #empty = 0;

  constructor(interval: number, idle: number) {
    this.#interval = interval;
    this.#idle = Math.max(interval, idle);
  }

  /** The pause after a poll that ended with nothing more to fetch, with ±10 % jitter. */
  after(changed: boolean): number {
    this.#empty = changed ? 0 : this.#empty + 1;
    const doublings = Math.min(Math.floor(this.#empty / POLLS_PER_STEP), 30);
    return jitter(Math.min(this.#interval * 2 ** doublings, this.#idle));
  }
}
