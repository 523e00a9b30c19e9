import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors.ts';
import { Alarm, sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { type Lease, releaseLease, renewLeases } from '../store/leases.ts';
import type { Database } from '../store/schema.ts';
import { heartbeat, signOff, type WorkerInfo } from '../store/workers.ts';
import { ConnectionLoop, type LoopContext, type LoopEnd, type OncePolicy } from './loop.ts';

export interface WorkerOptions {
  readonly info: WorkerInfo;
  /** Milliseconds. */
  readonly leaseTtl: number;
  /** How long the page in hand may take to finish at the end, in milliseconds. */
  readonly shutdownTimeout: number;
  /** A pool of its own for leases, so that page work cannot keep a renewal waiting (R15). */
  readonly control: Kysely<Database>;
}

/** Renewals per lease time: two may fail before the lease runs out. */
const RENEWALS_PER_TTL = 3;

interface Held {
  readonly loop: ConnectionLoop;
  readonly done: Promise<LoopEnd>;
}

/**
 * A process that holds leases and runs a loop for each. Tends to them: heartbeat, renewal, and wake-ups that
 * another process left in `next_poll_at`. Who claims what is the caller's (`supervisor.ts`, `catch-up.ts`).
 */
export class Worker {
  readonly #context: LoopContext;
  readonly #options: WorkerOptions;
  readonly #held = new Map<ConnectionId, Held>();
  readonly #stopping = new AbortController();
  readonly #tending = new AbortController();
  readonly #alarm = new Alarm();
  #tended: Promise<void> = Promise.resolve();
  #tendFailures = 0;

  constructor(context: LoopContext, options: WorkerOptions) {
    this.#context = context;
    this.#options = options;
  }

  get id(): string {
    return this.#options.info.workerId;
  }

  holds(connectionId: ConnectionId): boolean {
    return this.#held.has(connectionId);
  }

  get size(): number {
    return this.#held.size;
  }

  /**
   * Begins to tend. `claim` is called after each renewal, and its failures are reported like those of a renewal.
   * @throws what the first heartbeat throws.
   */
  async start(claim: () => Promise<void> = async () => {}): Promise<void> {
    await heartbeat(this.#options.control, this.#options.info);
    this.#tended = this.#tend(claim);
  }

  /** Runs a loop for a lease that was claimed, until the lease is lost, the worker stops, or `once` is met. */
  adopt(lease: Lease, claimedAt: number, once?: OncePolicy): Promise<LoopEnd> {
    const { connectionId, takenOver } = lease;
    const loop = new ConnectionLoop(this.#context, lease);
    loop.trustUntil(this.#trusted(claimedAt));
    this.#context.listen({ type: 'lease_taken', connectionId, takenOver });
    const done = this.#run(loop, once === undefined ? Math.max(0, lease.dueIn) : 0, once);
    this.#held.set(connectionId, { loop, done });
    return done;
  }

  /** Tends to the leases now instead of at the next renewal. */
  tendNow(): void {
    this.#alarm.ring();
  }

  /**
   * Ends every loop, waits for the pages in hand, gives the leases back and signs off (R16).
   * @returns false where that took longer than the time for it: what is in hand is dropped then.
   */
  async stop(): Promise<boolean> {
    this.#stopping.abort();
    this.#context.reached('stopping');
    const work = (async () => {
      await Promise.allSettled([...this.#held.values()].map((held) => held.done));
      this.#tending.abort();
      await this.#tended;
      await signOff(this.#options.control, this.id);
    })();
    const late = new AbortController();
    const finished = await Promise.race([
      work.then(
        () => true,
        () => false,
      ),
      sleep(this.#options.shutdownTimeout, late.signal).then(() => false),
    ]);
    late.abort();
    this.#tending.abort();
    return finished;
  }

  async #run(loop: ConnectionLoop, dueIn: number, once: OncePolicy | undefined): Promise<LoopEnd> {
    const { connectionId } = loop;
    const { listen } = this.#context;
    try {
      const end = await loop.run(dueIn, this.#stopping.signal, once);
      if (end === 'lease_lost') listen({ type: 'lease_lost', connectionId });
      else await this.#giveBack(connectionId, loop.term);
      return end;
    } finally {
      this.#held.delete(connectionId);
    }
  }

  async #giveBack(connectionId: ConnectionId, term: string): Promise<void> {
    try {
      await releaseLease(this.#options.control, connectionId, term);
      this.#context.listen({ type: 'lease_returned', connectionId });
    } catch (cause) {
      // It runs out by itself.
      const error = ReplicaError.from('database', cause, 'returning a lease');
      this.#context.listen({ type: 'worker_failed', error, failures: 1 });
    }
  }

  async #tend(claim: () => Promise<void>): Promise<void> {
    const { control, info, leaseTtl } = this.#options;
    const { signal } = this.#tending;
    while (!signal.aborted) {
      try {
        const startedAt = performance.now();
        const renewed = await renewLeases(control, info.workerId, leaseTtl);
        for (const { connectionId, term, dueIn } of renewed) {
          const loop = this.#held.get(connectionId)?.loop;
          if (loop?.term !== term) continue;
          loop.trustUntil(this.#trusted(startedAt));
          if (dueIn <= 0) loop.wakeIfAsleep();
        }
        await heartbeat(control, info);
        if (!this.#stopping.signal.aborted) await claim();
        if (this.#tendFailures > 0) {
          this.#context.listen({ type: 'worker_recovered', failures: this.#tendFailures });
          this.#tendFailures = 0;
        }
      } catch (cause) {
        this.#tendFailures++;
        const error = ReplicaError.from('database', cause, 'tending to the leases');
        this.#context.listen({ type: 'worker_failed', error, failures: this.#tendFailures });
      }
      await this.#alarm.sleep(leaseTtl / RENEWALS_PER_TTL, signal);
    }
  }

  /** The holder trusts its lease for less time than the database does, from the start of the attempt (R15). */
  #trusted(attemptedAt: number): number {
    return attemptedAt + this.#options.leaseTtl * 0.9;
  }
}
