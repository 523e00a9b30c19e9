import type { ConnectionId } from '../model.ts';
import type { Journal } from './journal.ts';

/** A loop as it judges itself. Readings of the monotonic clock, in milliseconds. */
export interface LoopHealth {
  readonly connectionId: ConnectionId;
  /** When it meant to move on; infinity while it waits for room. */
  readonly dueAt: number;
  /** When its last poll that went well ended; undefined before the first. */
  readonly polledAt: number | undefined;
  /** The pause between its polls now. */
  readonly interval: number;
  readonly failure: { readonly kind: string; readonly message: string; readonly parked: boolean } | undefined;
}

/** What a loop knows of how it stands. */
export class Standing {
  readonly #connectionId: ConnectionId;
  readonly #journal: Journal;
  #polledAt: number | undefined;
  #dueAt = Number.POSITIVE_INFINITY;
  #interval = 0;

  constructor(connectionId: ConnectionId, journal: Journal) {
    this.#connectionId = connectionId;
    this.#journal = journal;
  }

  /** It means to move on in `ms` milliseconds. */
  dueIn(ms: number): void {
    this.#dueAt = performance.now() + ms;
  }

  /** A poll that went well has ended. @param interval until the next, in milliseconds; 0: there is more. */
  polled(interval: number): void {
    this.#polledAt = performance.now();
    this.#interval = interval;
  }

  get health(): LoopHealth {
    const { failure: error } = this.#journal;
    const failure = error && { kind: error.kind, message: error.message, parked: error.verdict === 'park' };
    return {
      connectionId: this.#connectionId,
      dueAt: this.#dueAt,
      polledAt: this.#polledAt,
      interval: this.#interval,
      failure,
    };
  }

  /** Whether the upstream has more of it right now, and it comes. */
  get isBehind(): boolean {
    return this.#polledAt !== undefined && this.#interval === 0 && this.#journal.failure === undefined;
  }
}
