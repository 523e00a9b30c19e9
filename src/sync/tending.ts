import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { Alarm } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { releaseLeases, renewLeases } from '../store/leases.ts';
import type { Database } from '../store/schema.ts';
import { heartbeat, type WorkerInfo } from '../store/workers.ts';
import type { Listener } from './events.ts';
import type { ConnectionLoop } from './loop.ts';

export interface TendingOptions {
  readonly info: WorkerInfo;
  /** Milliseconds. */
  readonly leaseTtl: number;
  /** A pool of its own for leases, so that page work cannot keep a renewal waiting (R15). */
  readonly control: Kysely<Database>;
}

/** The loops of the leases that are held. */
export interface Loops {
  readonly loopOf: (connectionId: ConnectionId) => ConnectionLoop | undefined;
  readonly loops: () => Iterable<ConnectionLoop>;
}

/** Renewals per lease time: two may fail before the lease runs out. */
const RENEWALS_PER_TTL = 3;
/** How often the worker looks for leases to take or to give, at the least, in milliseconds. */
const DUTY_INTERVAL = 1_000;

/** What a worker does for its leases, again and again: heartbeat, renewal, wake-ups that another process left in
 * `next_poll_at`, and a duty. */
export class Tending {
  readonly #options: TendingOptions;
  readonly #listen: Listener;
  readonly #held: Loops;
  readonly #stopping: AbortSignal;
  readonly #ending = new AbortController();
  readonly #alarm = new Alarm();
  #tended: Promise<void> = Promise.resolve();
  #failures = 0;
  #renewAt = 0;
  #renewWanted = false;
  /** Leases of ours without a loop, at the last renewal. */
  #orphans = new Map<ConnectionId, string>();

  /** @param stopping from then on leases are only renewed. */
  constructor(options: TendingOptions, listen: Listener, held: Loops, stopping: AbortSignal) {
    this.#options = options;
    this.#listen = listen;
    this.#held = held;
    this.#stopping = stopping;
  }

  /** @param duty see `Worker.start`. */
  begin(duty?: () => Promise<void>): void {
    this.#tended = this.#tend(duty);
  }

  /** Does its duty now. */
  now(): void {
    this.#alarm.ring();
  }

  /** Renews the leases now, too. */
  renewNow(): void {
    this.#renewWanted = true;
    this.#alarm.ring();
  }

  /** Does no more; settles once what is under way is done. */
  async end(): Promise<void> {
    this.#ending.abort();
    await this.#tended;
  }

  async #tend(duty: (() => Promise<void>) | undefined): Promise<void> {
    const { signal } = this.#ending;
    const renewEvery = this.#options.leaseTtl / RENEWALS_PER_TTL;
    while (!signal.aborted) {
      try {
        const startedAt = performance.now();
        if (startedAt >= this.#renewAt || this.#renewWanted) {
          this.#renewWanted = false;
          // Until it has gone well.
          this.#renewAt = 0;
          await this.#renew(startedAt, duty !== undefined);
          this.#renewAt = startedAt + renewEvery;
        }
        if (!this.#stopping.aborted) await duty?.();
        if (this.#failures > 0) {
          this.#listen({ type: 'worker_recovered', failures: this.#failures });
          this.#failures = 0;
        }
      } catch (cause) {
        this.#failures++;
        const error = ReplicaError.from('internal', cause, 'tending to the leases');
        this.#listen({ type: 'worker_failed', error, failures: this.#failures });
      }
      await this.#alarm.sleep(Math.min(renewEvery, DUTY_INTERVAL), signal);
    }
  }

  async #renew(startedAt: number, registered: boolean): Promise<void> {
    const { control, info, leaseTtl } = this.#options;
    const orphans = new Map<ConnectionId, string>();
    for (const { connectionId, term, dueIn } of await renewLeases(control, info.workerId, leaseTtl)) {
      const loop = this.#held.loopOf(connectionId);
      if (loop === undefined) orphans.set(connectionId, term);
      else if (loop.term === term) {
        loop.trustFrom(startedAt);
        if (dueIn <= 0) loop.wakeIfAsleep();
      }
    }
    // A lease that could not be given back would be renewed for ever and block its connection; one that was just
    // claimed has its loop by the next renewal.
    const lost = [...orphans].flatMap(([connectionId, term]) =>
      this.#orphans.get(connectionId) === term ? [{ connectionId, term, due: false }] : [],
    );
    if (lost.length > 0) await releaseLeases(control, lost);
    this.#orphans = orphans;
    // A lease that another has taken counts in our share until its loop knows.
    for (const loop of this.#held.loops()) loop.doubt();
    if (registered && !this.#stopping.aborted) await heartbeat(control, info);
  }
}
