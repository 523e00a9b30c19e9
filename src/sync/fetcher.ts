import { setImmediate } from 'node:timers/promises';
import { WENT_BACK } from '../errors/codes.ts';
import { ReplicaError } from '../errors/errors.ts';
import type { Reservation } from '../lib/byte-budget.ts';
import type { ConnectionId, Cursor } from '../model.ts';
import type { Position } from '../store/state.ts';
import type { UpstreamClient } from '../upstream/client.ts';
import { type Answer, readPage } from '../upstream/page.ts';
import type { Admission } from './admission.ts';
import { normalise } from './normalise.ts';
import { type PackedPage, pack } from './packing.ts';
import type { PageLimit } from './page-limit.ts';

/** A page that is in memory, checked, and holds its bytes of the budget until it is released. */
export interface Fetched extends PackedPage {
  /** A reading of the monotonic clock when the request began. */
  readonly requestedAt: number;
  /** Milliseconds. */
  readonly requestTook: number;
  readonly held: Reservation;
}

export interface FetcherContext {
  readonly upstream: UpstreamClient;
  readonly admission: Admission;
}

/** The code of an answer that found no room in the process-wide budget. */
export const BUDGET_FULL = 'budget_full';

interface Ahead {
  readonly from: Cursor;
  readonly page: Promise<Fetched>;
  readonly cancel: AbortController;
}

/**
 * Fetches a connection's pages, one at a time, and the next one while the one before is written: at some distance
 * from the upstream that is half of the time. Further ahead gains nothing more, since writing is the longer part.
 */
export class Fetcher {
  readonly #context: FetcherContext;
  readonly #connectionId: ConnectionId;
  readonly #limit: PageLimit;
  #ahead: Ahead | undefined;
  #heldBack = Promise.resolve();
  #letGo = () => {};

  constructor(context: FetcherContext, connectionId: ConnectionId, limit: PageLimit) {
    this.#context = context;
    this.#connectionId = connectionId;
    this.#limit = limit;
  }

  /**
   * The page at a position: the one fetched ahead where it is that one.
   * @param progress see `turn`.
   * @throws ReplicaError with the kind that R13 gives; the signal's reason where it was aborted.
   */
  async take({ cursor }: Position, progress: (due: boolean) => void, signal: AbortSignal): Promise<Fetched> {
    this.#letGo();
    const ahead = this.#ahead;
    // That of another epoch is none: an epoch begins at cursor 0, and no page ahead is from there.
    if (ahead !== undefined && ahead.from === cursor) {
      this.#ahead = undefined;
      // Whether it waits for room or for its answer is not known: its own time-out ends it.
      progress(false);
      return await ahead.page;
    }
    this.drop();
    progress(false);
    return await this.#fetch(cursor, signal, () => progress(true));
  }

  /** Begins to fetch the page behind `page`, which is about to be written. */
  prefetch(page: Answer, signal: AbortSignal): void {
    this.drop();
    const cancel = new AbortController();
    const fetching = this.#fetch(page.cursor, AbortSignal.any([signal, cancel.signal]));
    // A failure is told when the page is taken, if it ever is.
    fetching.catch(() => {});
    this.#ahead = { from: page.cursor, page: fetching, cancel };
  }

  /**
   * Lets a page that comes ahead wait before it is read, so that the one in hand is with Postgres first: reading takes
   * the process for longer than all of its statements take to be sent.
   * @returns ends that; so does whoever takes or drops the page.
   */
  holdBack(): () => void {
    this.#letGo();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#heldBack = promise;
    this.#letGo = resolve;
    return resolve;
  }

  /** Forgets the page fetched ahead, and ends its request. */
  drop(): void {
    const ahead = this.#ahead;
    if (ahead === undefined) return;
    this.#ahead = undefined;
    this.#letGo();
    ahead.cancel.abort(new DOMException('dropped', 'AbortError'));
    ahead.page.then(
      ({ held }) => held.release(),
      () => {},
    );
  }

  async #fetch(cursor: Cursor, signal: AbortSignal, begun: () => void = () => {}): Promise<Fetched> {
    const limit = this.#limit;
    const { admission, upstream } = this.#context;
    const { body, ...told } = await admission.request(
      this.#connectionId,
      limit.expectedBytes,
      signal,
      async (key, held) => {
        begun();
        const requestedAt = performance.now();
        const { current, maxBytes } = limit;
        const admits = (bytes: number) => {
          if (bytes > maxBytes) return false;
          if (held.extend(bytes)) return true;
          // Reserved from the start the next time, where it is waited for.
          limit.expect(bytes * 2);
          throw budgetFull();
        };
        const body = await upstream.fetchPage(key, this.#connectionId, cursor, current, admits, signal);
        return { body, requestedAt, requestTook: performance.now() - requestedAt, held };
      },
    );
    try {
      await this.#heldBack;
      const page = readPage(body, cursor);
      if (page.cursor < page.from) throw wentBack('the answer has a lower cursor than the one sent');
      // In three steps: Postgres may be done with the page in hand meanwhile, and waits for the next statement.
      await setImmediate();
      const changes = normalise(page);
      await setImmediate();
      return { ...pack(page, changes), ...told };
    } catch (error) {
      told.held.release();
      throw error;
    }
  }
}

/** The process is full: the answer itself may be no larger than others. */
export function budgetFull(): ReplicaError {
  return new ReplicaError('oversize', { where: 'the memory for answers is taken', code: BUDGET_FULL });
}

/** An answer whose cursor is too low is never applied (R6). */
export function wentBack(where: string): ReplicaError {
  return new ReplicaError('protocol', { where, code: WENT_BACK });
}
