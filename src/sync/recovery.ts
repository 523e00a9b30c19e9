import type { Kysely } from 'kysely';
import {
  RECORD_TOO_LARGE,
  STARTED_OVER_TWICE,
  STATEMENT_TIMEOUT,
  TRANSACTION_TIMEOUT,
  WENT_BACK,
} from '../errors/codes.ts';
import { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId, Cursor } from '../model.ts';
import { notePairing } from '../store/connections.ts';
import { reachedBefore } from '../store/ledger.ts';
import type { Database } from '../store/schema.ts';
import { isAt, lockState, type Position, startEpoch, startedAutomatically } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';
import type { ApiKey } from '../upstream/api-key.ts';
import { type Answer, readPage } from '../upstream/page.ts';
import type { Listener } from './events.ts';
import { BUDGET_FULL, type FetcherContext, wentBack } from './fetcher.ts';
import { LOWEST_AFTER_REFUSAL, type PageLimit } from './page-limit.ts';

/** Lower answers in a row before a new epoch begins, at the least (R6). */
const LOWER_ANSWERS = 3;

export interface RecoveryContext extends FetcherContext {
  readonly db: Kysely<Database>;
  /** How long lower answers must have come before a new epoch begins, in milliseconds (RESET_CONFIRM). */
  readonly resetConfirm: number;
  readonly listen: Listener;
}

/**
 * Explains failures that may mean something else than they say (R6, R19): a limit that is too high, an answer too
 * large, a cursor that is no longer valid. What is learnt from one page to the next is kept here, per connection.
 */
export class Recovery {
  readonly #context: RecoveryContext;
  readonly #connectionId: ConnectionId;
  readonly #limit: PageLimit;
  #lower = { times: 0, since: 0 };
  /** A 409 was over when it was looked at, and no good page came since. */
  #forgiven = false;
  /** Where the numbering had come to when this epoch began. */
  #reached = { epoch: 1, cursor: 0n };

  constructor(context: RecoveryContext, connectionId: ConnectionId, limit: PageLimit) {
    this.#context = context;
    this.#connectionId = connectionId;
    this.#limit = limit;
  }

  /** A good page: whatever was doubted is not any more. */
  good(): void {
    this.#lower = { times: 0, since: 0 };
    this.#forgiven = false;
  }

  /**
   * Refuses a page that ends a resync at a lower cursor than the numbering had reached: the upstream has numbered anew
   * before or meanwhile, no answer would ever show it, and what changes from now on would pass for old (R6).
   * @throws ReplicaError as of a cursor that is lower than the one sent; what Postgres throws.
   */
  async refuse({ hasMore, cursor }: Answer, { epoch, numbering }: Position): Promise<void> {
    if (hasMore) return;
    if (epoch > this.#reached.epoch) {
      const reached = await reachedBefore(this.#context.db, this.#connectionId, numbering, epoch);
      this.#reached = { epoch, cursor: reached };
    }
    if (cursor < this.#reached.cursor)
      throw wentBack('a resync ends at a lower cursor than was reached before');
  }

  /**
   * Tries to do something about a failure.
   * @returns where to go on from, at once; undefined where there is nothing to do but to back off or park.
   * @throws ReplicaError in place of the failure, where it turned out to be another one.
   */
  async explain(error: ReplicaError, at: Position, signal: AbortSignal): Promise<Position | undefined> {
    // The process was full, not the answer too large: more is reserved for it the next time.
    if (error.code === BUDGET_FULL) return at;
    if (error.kind === 'oversize') return this.#oversized(error, at);
    if (error.kind === 'timeout' || [STATEMENT_TIMEOUT, TRANSACTION_TIMEOUT].includes(error.code ?? '')) {
      // A smaller page is sooner there, and sooner written; the pause stays.
      this.#shrunk(error.kind, LOWEST_AFTER_REFUSAL);
      return undefined;
    }
    if (error.code === WENT_BACK) return await this.#wentBack(at);
    if (error.status === 400 && this.#limit.refused()) {
      this.#tell('refused');
      return at;
    }
    if (error.status === 400 || error.status === 409 || error.status === 410) {
      return await this.#refused(error, at, signal);
    }
    return undefined;
  }

  #oversized(error: ReplicaError, at: Position): Position {
    if (this.#shrunk('oversize', 1)) return at;
    throw new ReplicaError('stalled', {
      where: `a single record has ${error.code}`,
      code: RECORD_TOO_LARGE,
    });
  }

  #shrunk(reason: string, least: number): boolean {
    const smaller = this.#limit.shrink(least);
    if (smaller) this.#tell(reason);
    return smaller;
  }

  #tell(reason: string): void {
    const { current: limit } = this.#limit;
    this.#context.listen({ type: 'limit', connectionId: this.#connectionId, limit, reason });
  }

  /** One lagging answer only looks like a start from the beginning; three over a while are one. */
  async #wentBack(at: Position): Promise<Position | undefined> {
    const now = performance.now();
    if (this.#lower.times === 0) this.#lower.since = now;
    this.#lower.times++;
    if (this.#lower.times < LOWER_ANSWERS || now - this.#lower.since < this.#context.resetConfirm)
      return undefined;
    return await this.#startOver(at);
  }

  /** 400 at the lowest limit, 409, 410: is it the pairing, the cursor, or something else? */
  async #refused(error: ReplicaError, at: Position, signal: AbortSignal): Promise<Position | undefined> {
    this.#limit.acquitted();
    const { upstream, db } = this.#context;
    const connectionId = this.#connectionId;
    if (error.status === 409) {
      const status = await this.#ask(signal, (key) => upstream.pairingStatus(key, connectionId, signal));
      await notePairing(db, connectionId, status);
      if (status.paired === false) return undefined;
    }
    // At cursor 0 there is no cursor to doubt.
    if (at.cursor === 0n) return undefined;
    // Refused alike: it was not the cursor, so the failure is what it says.
    if (!(await this.#isServed(0n, error, signal))) return undefined;
    if (error.status === 409 && (await this.#isServed(at.cursor, error, signal))) {
      // Nor was it: the account was paired again since it was refused, unless that comes twice running.
      const again = this.#forgiven;
      this.#forgiven = true;
      return again ? undefined : at;
    }
    return await this.#startOver(at);
  }

  /** Whether a cursor is served; nothing is written.
   * @throws what is neither that nor the refusal in question: not known yet. */
  async #isServed(cursor: Cursor, refusal: ReplicaError, signal: AbortSignal): Promise<boolean> {
    const { upstream } = this.#context;
    const limit = Math.min(LOWEST_AFTER_REFUSAL, this.#limit.current);
    const admits = (bytes: number) => bytes <= this.#limit.maxBytes;
    const fetch = (key: ApiKey) => upstream.fetchPage(key, this.#connectionId, cursor, limit, admits, signal);
    try {
      readPage(await this.#ask(signal, fetch), cursor);
      return true;
    } catch (probe) {
      if (!(probe instanceof ReplicaError)) throw probe;
      if (probe.status === refusal.status) return false;
      // Only a 200 is read so far as to be too large.
      if (probe.kind === 'oversize') return true;
      throw probe;
    }
  }

  /** A request of our own, admitted like any other; its answer is not kept. */
  async #ask<T>(signal: AbortSignal, work: (key: ApiKey) => Promise<T>): Promise<T> {
    return await this.#context.admission.ask(this.#connectionId, this.#limit.expectedBytes, signal, work);
  }

  /** A new epoch and a new numbering; at most once an hour without a person (R6). */
  async #startOver(at: Position): Promise<Position | undefined> {
    const { db, listen } = this.#context;
    const connectionId = this.#connectionId;
    let begun = false;
    const now = await inTransaction(db, BESIDE, async (trx) => {
      const state = await lockState(trx, connectionId);
      if (state === undefined || !isAt(state, at)) return state;
      if (await startedAutomatically(trx, connectionId)) {
        throw new ReplicaError('stalled', {
          where: 'the upstream starts over for the second time in an hour',
          code: STARTED_OVER_TWICE,
        });
      }
      await startEpoch(trx, connectionId, 'reset', true);
      begun = true;
      return await lockState(trx, connectionId);
    });
    if (begun) listen({ type: 'epoch', connectionId, reason: 'the upstream numbers anew' });
    this.good();
    return now;
  }
}
