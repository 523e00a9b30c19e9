import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Listener } from '../sync/events.ts';

/** How often it looks, how long ago the last page with anything in it must be, and the collection before, in
 * milliseconds: of a thousand connections that rest, polls alone fill the young generation every few seconds. */
const EVERY = 2_000;
const QUIET = 3_000;
const APART = 60_000;

/** How much V8 must hold more than after the last time, in bytes: less is not worth 50 ms of CPU. */
const WORTH = 8_000_000;

export interface AtRestOptions {
  readonly every?: number;
  readonly quiet?: number;
  readonly apart?: number;
  readonly worth?: number;
}

/**
 * Gives memory back when the daemon comes to rest, after its start or a backlog. V8 collects when it is asked for more
 * memory, so that one that has nothing to do keeps what its busiest hour took, for days.
 */
export class MemoryAtRest {
  readonly #every: number;
  readonly #quiet: number;
  readonly #apart: number;
  readonly #worth: number;
  #busyAt = performance.now();
  #collectedAt = Number.NEGATIVE_INFINITY;
  /** What V8 held after the last time, in bytes. */
  #left = 0;

  /** @param options milliseconds and bytes; for tests. */
  constructor({ every = EVERY, quiet = QUIET, apart = APART, worth = WORTH }: AtRestOptions = {}) {
    this.#every = every;
    this.#quiet = quiet;
    this.#apart = apart;
    this.#worth = worth;
  }

  readonly listen: Listener = (event) => {
    if (event.type === 'page' && event.moved) this.#busyAt = performance.now();
  };

  /** Looks from now on until the signal; keeps no process alive. */
  watch(signal: AbortSignal): void {
    const timer = setInterval(() => this.look(performance.now()), this.#every);
    timer.unref();
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  /** Collects where it is time to. @param now a reading of the monotonic clock. @returns whether it did. */
  look(now: number): boolean {
    if (now - this.#busyAt < this.#quiet || now - this.#collectedAt < this.#apart) return false;
    // Polls that bring nothing leave nothing behind either.
    if (this.#busyAt < this.#collectedAt) return false;
    if (held() - this.#left < this.#worth) return false;
    collect();
    this.#collectedAt = now;
    this.#left = held();
    return true;
  }
}

function held(): number {
  return getHeapStatistics().total_physical_size;
}

/** A collection that also shrinks what new objects are made in, which an ordinary one leaves at its largest. */
function collect(): void {
  setFlagsFromString('--expose-gc');
  // The function is put into contexts that are made from here on.
  const gc = runInNewContext('gc') as (options: object) => void;
  gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
