/** How many requests a key may have in flight once the ramp is over. */
const FULL = 64;

/**
 * Admits the requests of one API key, first come, first served. It spaces them to REQUEST_RATE. After a 429 none
 * passes until the time that the upstream asked for is over; then one probe, and with every success twice as many
 * (R13). Connections of other keys are not touched (R14).
 */
export class KeyGate {
  readonly #spacing: number;
  readonly #waiting: (() => void)[] = [];
  #nextAt = 0;
  #blockedUntil = 0;
  #allowed = Number.POSITIVE_INFINITY;
  #inFlight = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param rate requests a second, at most. */
  constructor(rate: number) {
    this.#spacing = 1000 / rate;
  }

  /** Waits until a request may be made; every entering is followed by one {@link leave}.
   * @throws the signal's reason where it is aborted first. */
  async enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const abort = () => {
        this.#waiting.splice(this.#waiting.indexOf(admit), 1);
        reject(signal.reason);
      };
      const admit = () => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      this.#waiting.push(admit);
      signal.addEventListener('abort', abort, { once: true });
      this.#admit();
    });
  }

  /**
   * Ends a request.
   * @param outcome after a 429 the wait in milliseconds; `passed` after a page.
   */
  leave(outcome: { readonly limitedFor: number } | 'passed' | 'failed'): void {
    this.#inFlight--;
    const now = performance.now();
    if (typeof outcome === 'object') {
      this.#blockedUntil = Math.max(this.#blockedUntil, now + outcome.limitedFor);
      this.#allowed = 1;
    } else if (outcome === 'passed' && now >= this.#blockedUntil) {
      // A request that was under way before the 429 says nothing about the time after it.
      this.#allowed = this.#allowed * 2 > FULL ? Number.POSITIVE_INFINITY : this.#allowed * 2;
    }
    this.#admit();
  }

  /** Admits whoever may pass now, and comes back when the next one may. */
  #admit(): void {
    clearTimeout(this.#timer);
    while (this.#waiting.length > 0 && this.#inFlight < this.#allowed) {
      const now = performance.now();
      const wait = Math.max(this.#blockedUntil, this.#nextAt) - now;
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#admit(), Math.min(wait, 2 ** 31 - 1));
        return;
      }
      this.#nextAt = Math.max(this.#nextAt, now - this.#spacing) + this.#spacing;
      this.#inFlight++;
      this.#waiting.shift()?.();
    }
  }
}
