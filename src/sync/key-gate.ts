/** How a request ended: after a 429 the wait in milliseconds; `passed` after a page. */
export type Outcome = { readonly limitedFor: number } | 'passed' | 'failed';

/**
 * When one API key's next request may begin. They are spaced to REQUEST_RATE. After a 429 none begins until the time
 * that the upstream asked for is over; then one probe, and with every success twice as many at a time (R13).
 * Times are readings of the monotonic clock, in milliseconds.
 */
export class KeyGate {
  readonly #rate: number;
  #spacing: number;
  readonly #full: number;
  #nextAt = 0;
  #blockedUntil = 0;
  #allowed = Number.POSITIVE_INFINITY;
  #inFlight = 0;

  /**
   * @param rate requests a second, at most.
   * @param full how many at a time end the ramp.
   */
  constructor(rate: number, full: number) {
    this.#rate = rate;
    this.#spacing = 1000 / rate;
    this.#full = full;
  }

  /** The rate is shared evenly among so many processes. */
  shareAmong(processes: number): void {
    this.#spacing = (1000 * processes) / this.#rate;
  }

  /** Whether as many may begin as there are: no 429 is to be got over. */
  get settled(): boolean {
    return this.#allowed === Number.POSITIVE_INFINITY;
  }

  /** How long the upstream asked to wait after a 429, from now on: 0 or less is over. Milliseconds. */
  limitedFor(now: number): number {
    return this.#blockedUntil - now;
  }

  /** Until one more may begin: 0 or less is now, infinity is not before another has ended. */
  opensIn(now: number): number {
    if (this.#inFlight >= this.#allowed) return Number.POSITIVE_INFINITY;
    return Math.max(this.#blockedUntil, this.#nextAt) - now;
  }

  /** A request begins; every one is followed by {@link leave}. */
  enter(now: number): void {
    // What a timer was late is made up for, but no more: a rest does not make a burst.
    this.#nextAt = Math.max(this.#nextAt, now - this.#spacing) + this.#spacing;
    this.#inFlight++;
  }

  /** A request ended. */
  leave(outcome: Outcome, now: number): void {
    this.#inFlight--;
    if (typeof outcome === 'object') {
      this.#blockedUntil = Math.max(this.#blockedUntil, now + outcome.limitedFor);
      this.#allowed = 1;
    } else if (outcome === 'passed' && now >= this.#blockedUntil) {
      // A request that was under way before the 429 says nothing about the time after it.
      this.#allowed = this.#allowed * 2 >= this.#full ? Number.POSITIVE_INFINITY : this.#allowed * 2;
    }
  }
}
