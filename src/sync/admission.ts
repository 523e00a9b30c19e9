import { ReplicaError } from '../errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import { ByteBudget, type Reservation } from '../lib/byte-budget.ts';
import { MAX_DELAY, unlessAborted } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { ApiKey } from '../upstream/api-key.ts';
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
interface KeyState {
  readonly gate: KeyGate;
  readonly cap: LimitCap;
  /** 429s in a row; those that came together are one. */
  limited: number;
  /** When a request of a slot began last: a reading of the monotonic clock. */
  askedAt: number;
  /** Who waits, in the order in which they came. */
  readonly line: Waiting[];
  /** Who goes behind all of these. */
  readonly behind: Waiting[];
  /** Who goes behind those too, and takes no room of theirs. */
  readonly beside: Waiting[];
}

interface Waiting {
  readonly connectionId: ConnectionId;
  readonly begin: () => void;
  ticket: number;
  /** The line that it stands in. */
  line: Waiting[];
}

/** `behind`: the live loops' requests go first, whoever came before. */
export type Priority = 'live' | 'behind';

/** A key that nobody has asked with for so long has no live loop here: one at rest asks every minute. Milliseconds. */
const ALONE_AFTER = 2 * 60_000;

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
  #processes = 1;
  #inFlight = 0;
  #tickets = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#budget = new ByteBudget(options.budget);
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
      if (priority === 'live') this.#hurry(connectionId);
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
    await this.#begin(connectionId, state.beside, signal);
    return await this.#counted(state, () => open(this.#options.keyOf(connectionId)));
  }

  async #admit<T>(
    connectionId: ConnectionId,
    expectedBytes: number,
    signal: AbortSignal,
    work: (key: ApiKey, held: Reservation) => Promise<T>,
    priority: Priority,
  ): Promise<T> {
    const state = this.#stateOf(connectionId);
    await this.#begin(connectionId, priority === 'live' ? state.line : state.behind, signal);
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
      this.#inFlight--;
      this.#next();
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
      this.#next();
    }
  }

  #stateOf(connectionId: ConnectionId): KeyState {
    const key = this.#options.keyOf(connectionId);
    let state = this.#keys.get(key);
    if (state === undefined) {
      const gate = new KeyGate(this.#options.rate, this.#options.concurrency);
      gate.shareAmong(this.#processes);
      state = {
        ...{ gate, cap: { most: Number.POSITIVE_INFINITY }, limited: 0, askedAt: Number.NEGATIVE_INFINITY },
        ...{ line: [], behind: [], beside: [] },
      };
      this.#keys.set(key, state);
    }
    return state;
  }

  /** Waits until a request of the key may begin.
   * @throws the signal's reason where it is aborted first. */
  async #begin(connectionId: ConnectionId, line: Waiting[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const abort = () => {
        entry.line.splice(entry.line.indexOf(entry), 1);
        reject(signal.reason);
      };
      const begin = () => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const entry: Waiting = { connectionId, begin, ticket: this.#tickets++, line };
      line.push(entry);
      signal.addEventListener('abort', abort, { once: true });
      this.#next();
    });
  }

  /** A live request that has to wait for one of its own connection gives that its place: behind the live requests of all
   * others, both would wait as long as these have a backlog. */
  #hurry(connectionId: ConnectionId): void {
    for (const { line, behind } of this.#keys.values()) {
      const at = behind.findIndex((one) => one.connectionId === connectionId);
      const [entry] = at < 0 ? [] : behind.splice(at, 1);
      if (entry !== undefined) line.push(Object.assign(entry, { ticket: this.#tickets++, line }));
    }
  }

  /** Lets in whoever may begin now, and comes back when the next one may. */
  #next(): void {
    clearTimeout(this.#timer);
    while (this.#inFlight < this.#options.concurrency) {
      const now = performance.now();
      const live = this.#firstOf(now, (state) => state.line);
      const behind = this.#firstOf(now, (state) => state.behind);
      const beside = this.#firstOf(now, (state) => state.beside, besideIn);
      const next = [live, behind, beside].find(({ first }) => first !== undefined);
      if (next?.first === undefined) {
        const soonest = Math.min(live.soonest, behind.soonest, beside.soonest);
        if (soonest !== Number.POSITIVE_INFINITY) {
          this.#timer = setTimeout(() => this.#next(), Math.min(soonest, MAX_DELAY));
        }
        return;
      }
      const { state, line } = next.first;
      if (next !== beside) {
        this.#inFlight++;
        state.askedAt = now;
      }
      state.gate.enter(now);
      line.shift()!.begin();
    }
  }

  /** Whose turn it is among the lines, by the order in which they came; and how long until the next may begin. */
  #firstOf(
    now: number,
    lineOf: (state: KeyState) => Waiting[],
    opensIn = ({ gate }: KeyState, at: number) => gate.opensIn(at),
  ): { first: { state: KeyState; line: Waiting[] } | undefined; soonest: number } {
    let first: { state: KeyState; line: Waiting[] } | undefined;
    let soonest = Number.POSITIVE_INFINITY;
    for (const state of this.#keys.values()) {
      const line = lineOf(state);
      if (line.length === 0) continue;
      const wait = opensIn(state, now);
      if (wait > 0) soonest = Math.min(soonest, wait);
      else if (first === undefined || line[0]!.ticket < first.line[0]!.ticket) first = { state, line };
    }
    return { first, soonest };
  }
}

/** Until one may begin beside the others: while the key's rate is to be found again, not before the live loops have done so. */
function besideIn({ gate, askedAt }: KeyState, now: number): number {
  return Math.max(gate.opensIn(now), gate.settled ? 0 : askedAt + ALONE_AFTER - now);
}
