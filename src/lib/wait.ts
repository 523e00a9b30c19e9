/** The longest delay of a timer, in milliseconds; a longer one would fire at once. */
export const MAX_DELAY = 2 ** 31 - 1;

/** A sleep that can be cut short: by {@link Alarm.ring}, or by the signal. */
export class Alarm {
  #wake: (() => void) | undefined;
  #rung = false;

  /** Ends the sleep at hand, or, where there is none, the next one. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /**
   * Sleeps for `ms` milliseconds.
   * @returns what ended it; never throws.
   */
  async sleep(ms: number, signal: AbortSignal): Promise<'elapsed' | 'rung' | 'aborted'> {
    if (!this.#rung && !signal.aborted && ms > 0) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(ms, MAX_DELAY));
        const end = () => {
          clearTimeout(timer);
          resolve();
        };
        this.#wake = end;
        signal.addEventListener('abort', end, { once: true });
        // A listener left behind for each sleep would pile up on a signal that lives as long as the process.
        this.#detach = () => signal.removeEventListener('abort', end);
      });
      this.#detach?.();
      this.#wake = undefined;
    }
    if (signal.aborted) return 'aborted';
    const rung = this.#rung;
    this.#rung = false;
    return rung ? 'rung' : 'elapsed';
  }

  #detach: (() => void) | undefined;
}

/** Sleeps for `ms` milliseconds or until the signal; never throws. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await new Alarm().sleep(ms, signal);
}

/**
 * What the work gives, unless the signal comes first; the work goes on then, and nobody hears how it ends.
 * @throws what the work throws; the signal's reason.
 */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true, signal: ended.signal });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    ended.abort();
  }
}
