import { ReplicaError } from '../errors/errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import { ByteBudget, type Reservation } from '../lib/byte-budget.ts';
import { unlessAborted } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { ApiKey } from '../upstream/api-key.ts';
import { besideIn, Entrance, type Lines, linesOf } from './entrance.ts';
import { KeyGate, type Outcome } from './key-gate.ts';
import type { LimitCap } from './page-limit.ts';

export interface AdmissionOptions {
  /** Requests in flight per process. */
  readonly concurrency: number;
  /** Requests a second per key, of all processes together. */
  readonly rate: number;
  /** Bytes of answers held at a time, process-wide. */
  readonly budget: number;
  readonly backoff: BackoffBounds;
  readonly keyOf: (connectionId: ConnectionId) => ApiKey;
}

/** What connections of one key share. */
interface KeyState extends Lines {
  readonly cap: LimitCap;
  /** 429s in a row; those that came together are one. */
  limited: number;
}

/** `behind`: the live loops' requests go first, whoever came before. */
export type Priority = 'live' | 'behind';

/**
 * When a request may begin: when its connection has no other in hand, when the process has one free and its key is not
 * limited, and when there is memory for the answer (R13, R14, R19). First come, first served: a backlog gives way
 * after each page. Who waits for a limited key keeps nobody else waiting, and nothing is promised to anybody before
 * it begins, so that a 429 holds back everyone who waits. What is not urgent goes behind: it begins only where no live
 * request of its key waits, and none of another key could, or where one of its own connection waits for it.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #budget: ByteBudget;
  readonly #keys = new Map<ApiKey, KeyState>();
  /** Connections that have a request in hand, or one that waits; it settles at its end. */
  readonly #inHand = new Map<ConnectionId, Promise<void>>();
  readonly #entrance: Entrance;
  #processes = 1;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#budget = new ByteBudget(options.budget);
    this.#entrance = new Entrance(options.concurrency);
  }

  /** Among how many processes each key's rate is shared. */
  get processes(): number {
    return this.#processes;
  }

  /** What is learnt of the greatest limit that the connection's key may ask for. */
  capOf(connectionId: ConnectionId): LimitCap {
    return this.#stateOf(connectionId).cap;
  }

  /** Among how many processes each key's rate is shared. */
  shareAmong(processes: number): void {
    this.#processes = Math.max(1, processes);
    for (const { gate } of this.#keys.values()) gate.shareAmong(this.#processes);
  }

  /**
   * Runs a request when there is room for it. What `work` reserved stays held where it succeeds: until the answer
   * is written, it is in memory.
   * @throws what `work` throws, or the signal's reason; nothing is held then.
   */
  async request<T>(
    connectionId: ConnectionId,
    expectedBytes: number,
    signal: AbortSignal,
    work: (key: ApiKey, held: Reservation) => Promise<T>,
    priority: Priority = 'live',
  ): Promise<T> {
    for (let other = this.#inHand.get(connectionId); other !== undefined; ) {
      if (priority === 'live') this.#entrance.hurry(connectionId);
      await unlessAborted(other, signal);
      other = this.#inHand.get(connectionId);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#inHand.set(connectionId, promise);
    try {
      return await this.#admit(connectionId, expectedBytes, signal, work, priority);
    } finally {
      this.#inHand.delete(connectionId);
      resolve();
    }
  }

  /** The same for a request whose answer is not kept. */
  async ask<T>(
    connectionId: ConnectionId,
    expectedBytes: number,
    signal: AbortSignal,
    work: (key: ApiKey) => Promise<T>,
  ): Promise<T> {
    return await this.request(connectionId, expectedBytes, signal, async (key, held) => {
      const answer = await work(key);
      held.release();
      return answer;
    });
  }

  /**
   * Begins a long download: of its key's rate like any other request, but only where nobody else waits, in no slot of
   * the process, and beside its connection's own request. It is no probe after a 429 where live loops are, which would
   * wait for one that may take long; a worker that holds no connection of the key has no other probe.
   * @param open resolves when the answer has begun; the rest of the body is the caller's.
   * @throws what `open` throws, or the signal's reason.
   */
  async beside<T>(
    connectionId: ConnectionId,
    signal: AbortSignal,
    open: (key: ApiKey) => Promise<T>,
  ): Promise<T> {
    const state = this.#stateOf(connectionId);
    await this.#entrance.wait(connectionId, state.beside, signal);
    return await this.#counted(state, () => open(this.#options.keyOf(connectionId)));
  }

  /** Until {@link beside} may begin a download as far as the connection's key is concerned, in milliseconds: 0 or less is
   * now, infinity is not before another request has ended. */
  besideIn(connectionId: ConnectionId): number {
    return besideIn(this.#stateOf(connectionId), performance.now());
  }

  /**
   * A request of the key's own, of none of its connections. It takes no turn, since it is made once in a while, but it is
   * not made while the key is limited, and a 429 to it holds back all others.
   * @throws ReplicaError `rate_limited` without a request where the key is; what `work` throws.
   */
  async ofKey<T>(key: ApiKey, where: string, work: () => Promise<T>): Promise<T> {
    const state = this.#stateOfKey(key);
    const now = performance.now();
    const retryAfter = state.gate.limitedFor(now);
    if (retryAfter > 0) throw new ReplicaError('rate_limited', { where, code: 'not asked', retryAfter });
    state.gate.enter(now);
    return await this.#counted(state, work);
  }

  async #admit<T>(
    connectionId: ConnectionId,
    expectedBytes: number,
    signal: AbortSignal,
    work: (key: ApiKey, held: Reservation) => Promise<T>,
    priority: Priority,
  ): Promise<T> {
    const state = this.#stateOf(connectionId);
    await this.#entrance.wait(connectionId, priority === 'live' ? state.line : state.behind, signal);
    try {
      return await this.#counted(state, async () => {
        const held = await this.#budget.reserve(expectedBytes, signal);
        try {
          return await work(this.#options.keyOf(connectionId), held);
        } catch (error) {
          held.release();
          throw error;
        }
      });
    } finally {
      this.#entrance.leave();
    }
  }

  /** Tells the key's gate how a request ended that it let in. */
  async #counted<T>(state: KeyState, work: () => Promise<T>): Promise<T> {
    const { limited } = state;
    let outcome: Outcome = 'failed';
    try {
      const result = await work();
      state.limited = 0;
      outcome = 'passed';
      return result;
    } catch (error) {
      if (error instanceof ReplicaError && error.kind === 'rate_limited') {
        // Those that were under way together are refused together: that is one refusal.
        if (state.limited === limited) state.limited++;
        outcome = { limitedFor: backoff(state.limited - 1, this.#options.backoff, error.retryAfter) };
      }
      throw error;
    } finally {
      state.gate.leave(outcome, performance.now());
      this.#entrance.next();
    }
  }

  #stateOf(connectionId: ConnectionId): KeyState {
    return this.#stateOfKey(this.#options.keyOf(connectionId));
  }

  #stateOfKey(key: ApiKey): KeyState {
    let state = this.#keys.get(key);
    if (state === undefined) {
      const gate = new KeyGate(this.#options.rate, this.#options.concurrency);
      gate.shareAmong(this.#processes);
      state = { ...linesOf(gate), cap: { most: Number.POSITIVE_INFINITY }, limited: 0 };
      this.#keys.set(key, state);
      this.#entrance.add(state);
    }
    return state;
  }
}
