import { ReplicaError } from '../errors/errors.ts';
import { jitter } from '../lib/backoff.ts';
import { Alarm } from '../lib/wait.ts';
import type { Listener } from '../sync/events.ts';
import { Faults } from './faults.ts';
import type { Logger } from './logger.ts';

/** SQLSTATEs of a statement that names a table or a column which is not there. */
const MISSING: ReadonlySet<string | undefined> = new Set(['42P01', '42703']);

/** How often the schema's version is looked at, in milliseconds. */
const EVERY = 30_000;

/**
 * Notices that a newer program has migrated the schema under a worker that runs: now and then, and at once where a
 * statement fails for what a migration may have taken away.
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
    if (MISSING.has(event.error.code)) this.#alarm.ring();
  };

  /**
   * Watches until the schema is newer, or until the signal.
   * @param check throws the error `schema_newer` where it is; what else it throws says nothing of the schema.
   * @returns that error; undefined where the signal came first.
   */
  async newer(
    check: () => Promise<void>,
    log: Logger,
    signal: AbortSignal,
  ): Promise<ReplicaError | undefined> {
    while ((await this.#alarm.sleep(jitter(this.#every), signal)) !== 'aborted') {
      try {
        await check();
        this.#faults.over();
      } catch (error) {
        if (error instanceof ReplicaError && error.kind === 'schema_newer') return error;
        const fault = this.#faults.note(error);
        if (fault !== undefined) log.error(fault, 'cannot watch the schema');
      }
    }
    return undefined;
  }
}
