import { mayPass, ReplicaError } from '../errors/errors.ts';
import { isDoubling } from '../lib/doubling.ts';
import { errorFields } from './logger.ts';

/**
 * Failures in a row of something that goes on beside the replication, whatever happens. An outage passes, and is told of
 * by the replication; anything else would keep it from its work without a word.
 */
export class Faults {
  readonly #where: string;
  #inARow = 0;

  /** @param where what failed, without values. */
  constructor(where: string) {
    this.#where = where;
  }

  /** It has gone well. */
  over(): void {
    this.#inARow = 0;
  }

  /** @returns what to log of a failure; undefined for one that passes by itself, and between the doublings of their count. */
  note(cause: unknown): Record<string, unknown> | undefined {
    if (mayPass(cause) || !isDoubling(++this.#inARow)) return undefined;
    const error = ReplicaError.from('internal', cause, this.#where);
    return { ...errorFields(error), failures: this.#inARow };
  }
}
