import { parks } from '../errors/errors.ts';
import type { Progress } from '../store/progress.ts';
import type { OncePolicy } from './loop.ts';

/** Watches how the holder of a connection fares that was made due. */
export class HolderWatch {
  readonly #maxFailures: number;
  /** The fewest failures in a row that were seen. */
  #least = Number.POSITIVE_INFINITY;

  constructor({ maxFailures }: OncePolicy) {
    this.#maxFailures = maxFailures;
  }

  /** Whether the holder has failed in a way that is not waited for. What failed before may be mended: only what came of
   * this attempt counts. */
  isHopeless(progress: Progress | undefined): boolean {
    if (progress === undefined) return true;
    const { leased, failedSince, lastErrorKind, failures } = progress;
    this.#least = Math.min(this.#least, failures);
    // Whether one is of a turn that had begun before cannot be told where others make it due, or the next turn has begun; the
    // second is not.
    const failed = failedSince || failures >= this.#least + 2;
    return leased && failed && (parks(lastErrorKind!) || failures >= this.#maxFailures);
  }
}
