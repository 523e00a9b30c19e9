import { ReplicaError } from '../errors/errors.ts';
import type { BackoffBounds } from '../lib/backoff.ts';
import type { ConnectionId } from '../model.ts';
import { noteFailure } from '../store/advance.ts';
import type { Lease } from '../store/leases.ts';
import { Doorbell, EVENT_SPACING } from './doorbell.ts';
import { Fetcher } from './fetcher.ts';
import { HeldLease } from './held-lease.ts';
import { Journal, recordsIn } from './journal.ts';
import { leastPauseAfter, longestPause, Pace, pauseAfter } from './pace.ts';
import { PageLimit } from './page-limit.ts';
import { Recovery, type RecoveryContext } from './recovery.ts';
import { Standing } from './standing.ts';
import { type Turn, type TurnContext, type TurnPlan, turn } from './turn.ts';

/** How loops behave. Durations in milliseconds. */
export interface LoopSettings {
  readonly pollInterval: number;
  readonly pollIntervalIdle: number;
  readonly backoff: BackoffBounds;
  readonly pageLimit: number;
  readonly pageLimitMax: number;
  /** Bytes. */
  readonly maxResponseBytes: number;
}

export interface LoopContext extends TurnContext, RecoveryContext {
  readonly settings: LoopSettings;
}

/** How long a loop waits for its lease to be renewed before it looks again, in milliseconds. */
const UNTRUSTED_PAUSE = 200;

/** Why a loop ended. */
export type LoopEnd = 'aborted' | 'lease_lost' | 'caught_up' | 'gave_up';

/** How a turn ended; `nextIn` in milliseconds. */
type TurnEnd = 'lease_lost' | { readonly caughtUp: boolean; readonly nextIn: number };

/** When a loop that is to catch up once shall stop trying. */
export interface OncePolicy {
  /** Failures in a row after which it gives up; a parked connection is given up at once. */
  readonly maxFailures: number;
}

/**
 * Replicates one connection while its lease lasts: turns, one after the other, until aborted. Owns the time
 * between turns: pace, backoff, wake-ups. What a turn does is in `turn.ts`.
 */
export class ConnectionLoop {
  readonly connectionId: ConnectionId;
  /** How it stands, as it judges itself. */
  readonly standing: Standing;
  readonly #context: LoopContext;
  readonly #bell = new Doorbell();
  readonly #pace: Pace;
  readonly #lease: HeldLease;
  #asleep = false;
  #unmoved = 0;
  readonly #limit: PageLimit;
  readonly #recovery: Recovery;
  readonly #fetcher: Fetcher;
  readonly #journal: Journal;

  constructor(context: LoopContext, lease: Lease) {
    this.#context = context;
    this.connectionId = lease.connectionId;
    this.#lease = new HeldLease(context, lease);
    this.#journal = new Journal(context.listen, lease.connectionId, lease.failures);
    this.standing = new Standing(lease.connectionId, this.#journal);
    const { pollInterval, pollIntervalIdle, pageLimit, pageLimitMax, maxResponseBytes } = context.settings;
    this.#pace = new Pace(pollInterval, pollIntervalIdle);
    const cap = context.admission.capOf(lease.connectionId);
    this.#limit = new PageLimit(pageLimit, pageLimitMax, maxResponseBytes, cap);
    this.#fetcher = new Fetcher(context, lease.connectionId, this.#limit);
    this.#recovery = new Recovery(context, lease.connectionId, this.#limit);
  }

  get term(): string {
    return this.#lease.term;
  }

  /** See `HeldLease`. */
  trustFrom(attemptedAt: number): void {
    this.#lease.trustFrom(attemptedAt);
  }

  /** Makes the connection due now; in mid-turn, again after it. Called when something happened at the upstream: a
   * poll that brings nothing is then followed by others, since the event may be ahead of the sync endpoint. */
  wake(): void {
    this.#pace.expect();
    this.#bell.ring();
  }

  /** The same, unless a turn is under way. */
  wakeIfAsleep(): void {
    if (this.#asleep) this.wake();
  }

  /** Whether something was announced that no poll has looked for yet. */
  get owesPoll(): boolean {
    return this.#bell.isOwed;
  }

  /** Looks at once whether another has the lease, where it is not sure of it and at rest. */
  doubt(): void {
    if (this.#asleep && !this.#lease.isTrusted) this.#bell.shake();
  }

  /** Whether it rests between two turns. */
  get asleep(): boolean {
    return this.#asleep;
  }

  /**
   * Runs until the signal, or until the lease is lost.
   * @param dueIn until the first turn, in milliseconds.
   * @param once stop as soon as nothing more is to fetch, or nothing can be done.
   */
  async run(dueIn: number, signal: AbortSignal, once?: OncePolicy): Promise<LoopEnd> {
    try {
      return await this.#run(Math.min(dueIn, longestPause(this.#context.settings)), signal, once);
    } finally {
      this.#fetcher.drop();
    }
  }

  async #run(dueIn: number, signal: AbortSignal, once?: OncePolicy): Promise<LoopEnd> {
    let pause = dueIn;
    for (;;) {
      this.#asleep = true;
      this.standing.dueIn(pause);
      const rested = await this.#bell.rest(pause, signal);
      this.#asleep = false;
      if (!rested) return 'aborted';
      if (!this.#lease.isTrusted) {
        // The renewal is late: no request is made on a lease that another may have by now.
        if (await this.#lease.isLost()) return 'lease_lost';
        pause = UNTRUSTED_PAUSE;
        continue;
      }
      const begunAt = performance.now();
      try {
        const done = await this.#explained(signal);
        if (done === 'lease_lost') return 'lease_lost';
        if (once !== undefined && done.caughtUp) return 'caught_up';
        pause = done.nextIn;
      } catch (error) {
        if (signal.aborted) return 'aborted';
        pause = await this.#failed(error, begunAt);
        const { failure, failures } = this.#journal;
        if (once !== undefined && (failure?.verdict === 'park' || failures >= once.maxFailures))
          return 'gave_up';
      }
    }
  }

  /** A turn, and what can be done where it fails. */
  async #explained(signal: AbortSignal): Promise<TurnEnd> {
    if (this.#journal.failures > 0 && (await this.#lease.isLost())) return 'lease_lost';
    try {
      return await this.#turn(signal);
    } catch (cause) {
      if (signal.aborted) throw cause;
      const error = ReplicaError.from('internal', cause, 'a turn');
      const goOn = await this.#recovery.explain(error, this.#lease.at, signal);
      if (goOn === undefined) throw error;
      // What is stored may be under the lease of another by now.
      if (goOn.term !== this.#lease.term) return 'lease_lost';
      this.#lease.at = goOn;
      return { caughtUp: false, nextIn: 0 };
    }
  }

  async #turn(signal: AbortSignal): Promise<TurnEnd> {
    const { listen } = this.#context;
    let nextIn = 0;
    const at = this.#lease.at;
    const startedAt = performance.now();
    const plan: TurnPlan = {
      nextPollIn: (changed) => {
        nextIn = this.#pace.after(changed);
        return nextIn;
      },
      progress: (due) => this.standing.dueIn(due ? 0 : Number.POSITIVE_INFINITY),
      refuse: (page) => this.#recovery.refuse(page, at),
    };
    const result = await turn(this.#context, this.#fetcher, this.connectionId, at, plan, signal);
    const { page, applied } = result;
    if (!applied.done) {
      // Another has moved the cursor (a resync), or holds the lease: go on from what is stored, or stop.
      const leaseLost = applied.now?.term !== at.term;
      listen({ type: 'fenced', connectionId: this.connectionId, leaseLost });
      if (applied.now === undefined || leaseLost) return 'lease_lost';
      this.#lease.at = applied.now;
      return { caughtUp: false, nextIn: 0 };
    }
    this.#lease.at = { ...at, cursor: page.cursor };
    // The commit extended the lease, at some time after the turn began.
    this.#lease.trustFrom(startedAt);
    this.#journal.page(result, applied);
    this.#refuseStandstill(result);
    this.#limit.good(recordsIn(result), page.body.length, page.hasMore);
    this.#recovery.good();
    this.#journal.recovered();
    this.#bell.answered(result.requestedAt);
    this.#bell.deafen(page.hasMore ? 0 : EVENT_SPACING);
    if (!page.hasMore && this.#bell.isOwed) {
      this.#pace.expect();
      nextIn = EVENT_SPACING;
    }
    if (page.hasMore) nextIn = 0;
    this.standing.polled(nextIn);
    return { caughtUp: !page.hasMore, nextIn };
  }

  /** `has_more` with an unmoved cursor, twice running, is an error like any other (R12). */
  #refuseStandstill({ page }: Turn): void {
    this.#unmoved = page.hasMore && page.cursor === page.from ? this.#unmoved + 1 : 0;
    if (this.#unmoved >= 2) {
      throw new ReplicaError('stalled', { where: 'has_more is set, but the cursor does not move' });
    }
  }

  /** Notes a failure and gives the delay before the next turn. */
  async #failed(cause: unknown, begunAt: number): Promise<number> {
    const error = ReplicaError.from('internal', cause, 'a turn');
    const { settings, db } = this.#context;
    const { connectionId } = this;
    this.standing.dueIn(0);
    const bounds = settings.backoff;
    const retryIn = this.#journal.failed(error, (failures) => pauseAfter(error, failures, bounds));
    const { failures } = this.#journal;
    // An event may cut the pause short.
    this.#bell.deafen(leastPauseAfter(error, failures, bounds));
    try {
      const { kind, message } = error;
      const failure = { kind, message, failures, begunAgo: performance.now() - begunAt, nextPollIn: retryIn };
      await noteFailure(db, connectionId, this.term, failure);
    } catch {
      // The database is out of reach; the failure is told above.
    }
    return retryIn;
  }
}
