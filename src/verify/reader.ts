import { ReplicaError } from '../errors/errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { Admission } from '../sync/admission.ts';
import { BUDGET_FULL, budgetFull } from '../sync/fetcher.ts';
import { PageLimit } from '../sync/page-limit.ts';
import type { ApiKey } from '../upstream/api-key.ts';
import type { List, ListRequest, Lists } from '../upstream/lists.ts';
import type { VerifyPace } from './pace.ts';

export interface ReaderContext {
  readonly lists: Lists;
  readonly admission: Admission;
  readonly pace: VerifyPace;
  readonly keyOf: (connectionId: ConnectionId) => ApiKey;
  readonly pageLimit: number;
  readonly pageLimitMax: number;
  /** Bytes. */
  readonly maxResponseBytes: number;
  readonly backoff: BackoffBounds;
}

/** A list that is in memory, and holds its bytes of the budget until it is released. */
export interface Read {
  readonly list: List;
  release(): void;
}

/** Requests in a row that may fail before the verification does. */
const ATTEMPTS = 5;

/** Reserved before a request; more is taken as the answer comes, so that no live request waits for memory that a list
 * might need. */
const EXPECTED_BYTES = 65_536;

/** What there is no smaller one to ask for of (R19) may be this many times as large as a page. Not as large as all that
 * may be held: whoever compares it waits for a page of the connection, which wants room, too. */
const LAST_RESORT = 3;

/** Reads one connection's lists: at the pace of verifications, behind the live loops, again where it fails for now. */
export class ListReader {
  readonly #context: ReaderContext;
  readonly #connectionId: ConnectionId;
  readonly #limit: PageLimit;
  /** Requests made, those that failed included. */
  requests: number;

  /** @param requests those that were made before an interruption. */
  constructor(context: ReaderContext, connectionId: ConnectionId, requests: number) {
    this.#context = context;
    this.#connectionId = connectionId;
    this.requests = requests;
    const { pageLimit, pageLimitMax, maxResponseBytes, admission } = context;
    this.#limit = new PageLimit(pageLimit, pageLimitMax, maxResponseBytes, admission.capOf(connectionId));
  }

  async contacts(signal: AbortSignal): Promise<Read> {
    return await this.#whole((request) => this.#context.lists.contacts(request), signal);
  }

  async conversations(signal: AbortSignal): Promise<Read> {
    return await this.#whole((request) => this.#context.lists.conversations(request), signal);
  }

  /** A page of a conversation's messages; what is too large, too slow or refused is asked for again with a lower limit. */
  async messages(conversationId: string, before: string | undefined, signal: AbortSignal): Promise<Read> {
    const limit = this.#limit;
    const most = () => Math.min(limit.maxBytes, this.#most);
    const smaller = ({ kind }: ReplicaError) => {
      if (kind === 'oversize' || kind === 'timeout') return limit.shrink(1);
      if (kind !== 'bad_request') return false;
      if (limit.refused()) return true;
      // It was not the limit: what the next conversation is read with is not the key's bound.
      limit.acquitted();
      return false;
    };
    const ask = (request: ListRequest) =>
      this.#context.lists.messages(request, conversationId, before, limit.current);
    const read = await this.#read(ask, most, smaller, signal);
    limit.good(read.list.records.length, read.list.bytes, read.list.hasMore);
    return read;
  }

  /** A list that is not paged. */
  async #whole(ask: (request: ListRequest) => Promise<List>, signal: AbortSignal): Promise<Read> {
    const smaller = () => false;
    return await this.#read(ask, () => this.#most, smaller, signal);
  }

  get #most(): number {
    return this.#context.maxResponseBytes * LAST_RESORT;
  }

  async #read(
    ask: (request: ListRequest) => Promise<List>,
    most: () => number,
    smaller: (error: ReplicaError) => boolean,
    signal: AbortSignal,
  ): Promise<Read> {
    const { admission, pace, keyOf, maxResponseBytes: page, backoff: bounds } = this.#context;
    const connectionId = this.#connectionId;
    for (let failures = 0; ; ) {
      await pace.turn(keyOf(connectionId), signal);
      this.requests++;
      try {
        return await admission.request(
          connectionId,
          Math.min(EXPECTED_BYTES, page),
          signal,
          async (key, held) => {
            const admits = (bytes: number) => {
              if (bytes > most()) return false;
              if (held.extend(bytes, page)) return true;
              throw budgetFull();
            };
            const list = await ask({ key, connectionId, admits, signal });
            return { list, release: () => held.release() };
          },
          'behind',
        );
      } catch (error) {
        if (!(error instanceof ReplicaError)) throw error;
        const full = error.code === BUDGET_FULL;
        if (!full && smaller(error)) continue;
        const passes = error.verdict === 'retry' && (full || error.kind !== 'oversize');
        if (!passes || ++failures >= ATTEMPTS) throw error;
        await sleep(backoff(failures - 1, bounds, error.retryAfter), signal);
      }
    }
  }
}
