import { ReplicaError } from '../errors/errors.ts';
import { jitter } from '../lib/backoff.ts';
import { Alarm } from '../lib/wait.ts';
import type { Listener } from '../sync/events.ts';
import { Faults } from './faults.ts';
import type { Logger } from './logger.ts';

/** SQLSTATEs of a statement that names a table or a column which is not there, or that row-level security refuses. */
const REFUSED: ReadonlySet<string | undefined> = new Set(['42P01', '42703', '42501']);

/** How often the schema's version is looked at, in milliseconds. */
const EVERY = 30_000;

/**
 * Notices that the tables are no longer for a worker that runs: a newer program has migrated the schema, or rows are
 * hidden from its role. Looks now and then, and at once where a statement fails for it.
 */
export class SchemaWatch {
  readonly #every: number;
  readonly #alarm = new Alarm();
  readonly #faults = new Faults("reading the schema's version");

  /** @param every milliseconds. */
  constructor(every = EVERY) {
    this.#every = every;
  }

  readonly listen: Listener = (event) => {
    if (event.type !== 'failed' && event.type !== 'worker_failed') return;
    if (REFUSED.has(event.error.code)) this.#alarm.ring();
  };

  /**
   * Watches until the tables are not for this worker any more, or until the signal.
   * @param check throws a fatal error where they are not; what else it throws says nothing of them.
   * @returns that error; undefined where the signal came first.
   */
  async outdated(
    check: () => Promise<void>,
    log: Logger,
    signal: AbortSignal,
  ): Promise<ReplicaError | undefined> {
    while ((await this.#alarm.sleep(jitter(this.#every), signal)) !== 'aborted') {
      try {
        await check();
        this.#faults.over();
      } catch (error) {
        if (error instanceof ReplicaError && error.verdict === 'fatal') return error;
        const fault = this.#faults.note(error);
        if (fault !== undefined) log.error(fault, 'cannot watch the schema');
      }
    }
    return undefined;
  }
}
