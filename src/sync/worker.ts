import { ReplicaError } from '../errors/errors.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { Lease } from '../store/leases.ts';
import { announceLeases } from '../store/notify.ts';
import { signOff } from '../store/workers.ts';
import type { SyncEvent } from './events.ts';
import { LeaseReturns } from './lease-returns.ts';
import { ConnectionLoop, type LoopContext, type LoopEnd, type OncePolicy } from './loop.ts';
import type { LoopHealth } from './standing.ts';
import { Tending, type TendingOptions } from './tending.ts';

export interface WorkerOptions extends TendingOptions {
  /** How long the page in hand may take to finish at the end, in milliseconds. */
  readonly shutdownTimeout: number;
}

interface Held {
  readonly loop: ConnectionLoop;
  readonly done: Promise<LoopEnd>;
  /** Ends this loop alone. */
  readonly yielding: AbortController;
}

/**
 * A process that holds leases and runs a loop for each, and tends to them (`tending.ts`). Who claims what is the caller's
 * (`supervisor.ts`, `catch-up.ts`).
 */
export class Worker {
  readonly #context: LoopContext;
  readonly #options: WorkerOptions;
  readonly #held = new Map<ConnectionId, Held>();
  readonly #stopping = new AbortController();
  readonly #tending: Tending;
  readonly #returns: LeaseReturns;
  /** The end was not waited for. */
  #dropped = false;

  constructor(context: LoopContext, options: WorkerOptions) {
    this.#context = context;
    this.#options = options;
    this.#returns = new LeaseReturns(options.control);
    const loopOf = (connectionId: ConnectionId) => this.#held.get(connectionId)?.loop;
    const loops = () => [...this.#held.values()].map(({ loop }) => loop);
    const listen = (event: SyncEvent) => this.tell(event);
    this.#tending = new Tending(options, listen, { loopOf, loops }, this.#stopping.signal);
  }

  get id(): string {
    return this.#options.info.workerId;
  }

  holds(connectionId: ConnectionId): boolean {
    return this.#held.has(connectionId);
  }

  get held(): readonly ConnectionId[] {
    return [...this.#held.keys()];
  }

  /** How each of its loops stands. */
  get health(): readonly LoopHealth[] {
    return [...this.#held.values()].map(({ loop }) => loop.standing.health);
  }

  /** Whether any of its loops works a backlog off. */
  get isBehind(): boolean {
    for (const { loop } of this.#held.values()) if (loop.standing.isBehind) return true;
    return false;
  }

  /** How many leases it holds and means to keep. */
  get size(): number {
    let size = 0;
    for (const { yielding } of this.#held.values()) if (!yielding.signal.aborted) size++;
    return size;
  }

  /**
   * Begins to tend. `duty` is called at every look at the leases, and its failures are reported like those of a
   * renewal. Only a worker that has a duty is in the list of workers and gets a share (R15); one pass does not.
   */
  start(duty?: () => Promise<void>): void {
    this.#tending.begin(duty);
  }

  /** Runs a loop for a lease that was claimed, until the lease is lost, the worker stops, or `once` is met. */
  adopt(lease: Lease, claimedAt: number, once?: OncePolicy): Promise<LoopEnd> {
    const { connectionId, takenOver } = lease;
    const loop = new ConnectionLoop(this.#context, lease);
    loop.trustFrom(claimedAt);
    this.#context.listen({ type: 'lease_taken', connectionId, takenOver });
    const yielding = new AbortController();
    const signal = AbortSignal.any([this.#stopping.signal, yielding.signal]);
    const done = this.#run(loop, once === undefined ? Math.max(0, lease.dueIn) : 0, signal, once);
    this.#held.set(connectionId, { loop, done, yielding });
    return done;
  }

  /** Reports something of leases to whoever listens to the loops. Of what was dropped at the end, and fails since then
   * because its pool is closed, nothing. */
  tell(event: SyncEvent): void {
    if (!this.#dropped) this.#context.listen(event);
  }

  /** Says how many workers there are: the rate of a key is for all of them. */
  shareAmong(workers: number): void {
    this.#context.admission.shareAmong(workers);
  }

  /** Gives up to `count` leases to other workers; those that rest first. Each ends after the page in hand. */
  yieldLeases(count: number): void {
    const held = [...this.#held.values()].filter((one) => !one.yielding.signal.aborted);
    held.sort((a, b) => Number(b.loop.asleep) - Number(a.loop.asleep));
    for (const { yielding } of held.slice(0, count))
      yielding.abort(new DOMException('yielded', 'AbortError'));
  }

  /** Ends the loop of a connection that is not to be replicated any more. */
  drop(connectionId: ConnectionId): void {
    this.#held.get(connectionId)?.yielding.abort(new DOMException('dropped', 'AbortError'));
  }

  /** Makes a connection due now, where its loop is here: something happened at the upstream.
   * @returns false where it is not, or is about to end. */
  wake(connectionId: ConnectionId): boolean {
    const held = this.#held.get(connectionId);
    if (held === undefined) return false;
    held.loop.wake();
    return !held.yielding.signal.aborted && !this.#stopping.signal.aborted;
  }

  /** Looks for leases to take or to give now. */
  tendNow(): void {
    this.#tending.now();
  }

  /** Renews them now, too: so it finds the connections that another process made due, unheard. */
  renewNow(): void {
    this.#tending.renewNow();
  }

  /**
   * Ends every loop, waits for the pages in hand, gives the leases back and signs off (R16).
   * @returns false where that took longer than the time for it: what is in hand is dropped then.
   */
  async stop(): Promise<boolean> {
    this.#stopping.abort();
    this.#context.reached('stopping');
    const ended = this.#ended();
    const work = (async () => {
      // First, so that the shares of the others have grown when the leases come free: a page that takes long keeps
      // back its own connection only.
      await signOff(this.#options.control, this.id).catch(() => {});
      await ended;
      await this.#tending.end();
      // Again: leases may have been claimed, and a heartbeat have been on its way.
      await this.#ended();
      await this.#signOff();
    })();
    const late = new AbortController();
    const finished = await Promise.race([
      work.then(() => true),
      sleep(this.#options.shutdownTimeout, late.signal).then(() => false),
    ]);
    late.abort();
    this.#dropped = !finished;
    void this.#tending.end();
    return finished;
  }

  /** Without it the others count this worker in until its heartbeat is old. */
  async #signOff(): Promise<void> {
    try {
      await signOff(this.#options.control, this.id);
      await announceLeases(this.#options.control);
    } catch (cause) {
      const error = ReplicaError.from('internal', cause, 'signing off');
      this.tell({ type: 'worker_failed', error, failures: 1 });
    }
  }

  /** Waits for the loops that there are. */
  async #ended(): Promise<void> {
    await Promise.allSettled([...this.#held.values()].map((held) => held.done));
  }

  async #run(
    loop: ConnectionLoop,
    dueIn: number,
    signal: AbortSignal,
    once: OncePolicy | undefined,
  ): Promise<LoopEnd> {
    const { connectionId } = loop;
    const { listen } = this.#context;
    try {
      const end = await loop.run(dueIn, signal, once);
      if (end === 'lease_lost') listen({ type: 'lease_lost', connectionId });
      else await this.#giveBack(loop);
      return end;
    } finally {
      this.#held.delete(connectionId);
    }
  }

  async #giveBack({ connectionId, term, owesPoll }: ConnectionLoop): Promise<void> {
    try {
      await this.#returns.give({ connectionId, term, due: owesPoll });
      this.#context.listen({ type: 'lease_returned', connectionId });
    } catch (cause) {
      // It runs out by itself.
      const error = ReplicaError.from('internal', cause, 'returning a lease');
      this.tell({ type: 'worker_failed', error, failures: 1 });
    }
  }
}
