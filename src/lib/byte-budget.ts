/**
 * A process-wide bound on the bytes of answers held at a time (R19): memory follows it, whatever the number of
 * connections. First come, first served.
 */
export class ByteBudget {
  readonly #capacity: number;
  #free: number;
  readonly #waiting: { bytes: number; admit: () => void }[] = [];

  /** @param capacity bytes. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#free = capacity;
  }

  /** Waits until `bytes` can be held; more than there are at all counts as all.
   * @throws the signal's reason where it is aborted first. */
  async reserve(bytes: number, signal: AbortSignal): Promise<Reservation> {
    signal.throwIfAborted();
    const wanted = Math.min(bytes, this.#capacity);
    if (this.#waiting.length > 0 || this.#free < wanted) {
      await new Promise<void>((resolve, reject) => {
        const abort = () => {
          const at = this.#waiting.indexOf(entry);
          if (at >= 0) this.#waiting.splice(at, 1);
          reject(signal.reason);
          this.#admit();
        };
        const entry = {
          bytes: wanted,
          admit: () => {
            signal.removeEventListener('abort', abort);
            resolve();
          },
        };
        this.#waiting.push(entry);
        signal.addEventListener('abort', abort, { once: true });
      });
    } else {
      this.#free -= wanted;
    }
    let held = wanted;
    return {
      extend: (total, leave = 0) => {
        const more = total - held;
        if (more <= 0) return true;
        if (more > this.#free - leave) return false;
        this.#free -= more;
        held = total;
        return true;
      },
      release: () => {
        this.#free += held;
        held = 0;
        this.#admit();
      },
    };
  }

  #admit(): void {
    for (
      let next = this.#waiting[0];
      next !== undefined && next.bytes <= this.#free;
      next = this.#waiting[0]
    ) {
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.admit();
    }
  }
}

/** Bytes that are held until they are released. */
export interface Reservation {
  /** Takes what is missing to `total` bytes at once, without waiting (two that wait for each other would never
   * end). False where there is not enough: nothing is taken then.
   * @param leave bytes that stay free for others. */
  extend(total: number, leave?: number): boolean;
  /** Gives all of them back; harmless when repeated. */
  release(): void;
}
