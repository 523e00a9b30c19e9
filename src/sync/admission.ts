import pLimit, { type LimitFunction } from 'p-limit';
import { ReplicaError } from '../errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import { ByteBudget, type Reservation } from '../lib/byte-budget.ts';
import type { ConnectionId } from '../model.ts';
import type { ApiKey } from '../upstream/client.ts';
import { KeyGate } from './key-gate.ts';
import type { LimitCap } from './page-limit.ts';

export interface AdmissionOptions {
  /** Requests in flight per process. */
  readonly concurrency: number;
  /** Requests a second per key. */
  readonly rate: number;
  /** Bytes of answers held at a time, process-wide. */
  readonly budget: number;
  readonly backoff: BackoffBounds;
  readonly keyOf: (connectionId: ConnectionId) => ApiKey;
}

interface KeyState {
  readonly gate: KeyGate;
  readonly cap: LimitCap;
  limited: number;
}

/**
 * When a request may begin: when its key is not limited, when the process has a request free, and when there is memory
 * for the answer; asked for in this order, so that a limited key keeps no request from another's connections
 * (R13, R14, R19). First come, first served: a backlog gives way after each page.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #slots: LimitFunction;
  readonly #budget: ByteBudget;
  readonly #keys = new WeakMap<ApiKey, KeyState>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#slots = pLimit(options.concurrency);
    this.#budget = new ByteBudget(options.budget);
  }

  /** What connections of one key share. */
  of(connectionId: ConnectionId): KeyState {
    const key = this.#options.keyOf(connectionId);
    let state = this.#keys.get(key);
    if (state === undefined) {
      state = { gate: new KeyGate(this.#options.rate), cap: { most: Number.POSITIVE_INFINITY }, limited: 0 };
      this.#keys.set(key, state);
    }
    return state;
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
  ): Promise<T> {
    const state = this.of(connectionId);
    await state.gate.enter(signal);
    let outcome: Parameters<KeyGate['leave']>[0] = 'failed';
    try {
      const result = await this.#slots(async () => {
        const held = await this.#budget.reserve(expectedBytes, signal);
        try {
          return await work(this.#options.keyOf(connectionId), held);
        } catch (error) {
          held.release();
          throw error;
        }
      });
      state.limited = 0;
      outcome = 'passed';
      return result;
    } catch (error) {
      if (error instanceof ReplicaError && error.kind === 'rate_limited') {
        outcome = { limitedFor: backoff(state.limited++, this.#options.backoff, error.retryAfter) };
      }
      throw error;
    } finally {
      state.gate.leave(outcome);
    }
  }
}
