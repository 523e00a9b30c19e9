import { sleep } from '../lib/wait.ts';
import type { SyncEvent } from '../sync/events.ts';
import { hasChanged } from '../sync/write.ts';
import { Faults } from './faults.ts';
import type { Logger } from './logger.ts';

/** At most one notice in so many milliseconds. */
const SPACING = 100;

/**
 * Says that the feed has grown, after pages that wrote something. Not in their transactions: Postgres commits those that
 * notify one after the other. A notice that is lost costs a reader its pause, and no row.
 */
export class ChangeBell {
  readonly #announce: () => Promise<void>;
  readonly #log: Logger;
  readonly #signal: AbortSignal;
  readonly #faults = new Faults('announcing changes');
  #busy = false;
  #rung = false;

  constructor(announce: () => Promise<void>, log: Logger, signal: AbortSignal) {
    this.#announce = announce;
    this.#log = log;
    this.#signal = signal;
  }

  readonly listen = (event: SyncEvent): void => {
    if (event.type === 'page' && hasChanged(event.tally)) void this.#ring();
  };

  async #ring(): Promise<void> {
    this.#rung = true;
    if (this.#busy) return;
    this.#busy = true;
    while (this.#rung && !this.#signal.aborted) {
      this.#rung = false;
      try {
        await this.#announce();
        this.#faults.over();
      } catch (error) {
        const fault = this.#faults.note(error);
        if (fault !== undefined) this.#log.error(fault, 'cannot announce changes');
      }
      await sleep(SPACING, this.#signal);
    }
    this.#busy = false;
  }
}
