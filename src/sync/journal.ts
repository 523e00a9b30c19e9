import type { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { Applied } from './apply.ts';
import type { Listener } from './events.ts';
import type { Turn } from './turn.ts';

/**
 * What one connection's loop tells the listeners: pages, backlogs done, failures and recoveries. Keeps what spans
 * several turns, so that the loop does not have to.
 */
export class Journal {
  readonly #listen: Listener;
  readonly #connectionId: ConnectionId;
  #backlog = { pages: 0, records: 0, since: 0 };
  #failures: number;
  #failure: ReplicaError | undefined;

  /** @param failures in a row, of whoever held the lease before. */
  constructor(listen: Listener, connectionId: ConnectionId, failures: number) {
    this.#listen = listen;
    this.#connectionId = connectionId;
    this.#failures = failures;
  }

  /** The last failure; undefined after a turn that went well. */
  get failure(): ReplicaError | undefined {
    return this.#failure;
  }

  /** Failures in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** A page that was written. */
  page(turn: Turn, applied: Extract<Applied, { done: true }>): void {
    const { page, changes, requestTook, applyTook } = turn;
    const rejected: Partial<Record<string, number>> = {};
    for (const { kind } of applied.rejects) rejected[kind] = (rejected[kind] ?? 0) + 1;
    this.#listen({
      type: 'page',
      connectionId: this.#connectionId,
      cursor: page.cursor,
      hasMore: page.hasMore,
      moved: page.cursor !== page.from,
      bytes: page.body.length,
      partial: changes.partial,
      quarantined: applied.rejects.length,
      rejected,
      tally: applied.tally,
      suppressed: applied.suppressed,
      requestTook,
      applyTook,
    });
    if (applied.gap !== undefined) {
      this.#listen({ type: 'gap', connectionId: this.#connectionId, ...applied.gap });
    }
    this.#count(turn);
  }

  /** A turn that went well, after whatever failed before. */
  recovered(): void {
    const failures = this.#failures;
    this.#failures = 0;
    this.#failure = undefined;
    if (failures > 0) this.#listen({ type: 'recovered', connectionId: this.#connectionId, failures });
  }

  /** A turn that failed.
   * @param pauseAfter the pause after so many failures in a row, in milliseconds.
   * @returns that. */
  failed(error: ReplicaError, pauseAfter: (failures: number) => number): number {
    const connectionId = this.#connectionId;
    const failures = ++this.#failures;
    this.#failure = error;
    const retryIn = pauseAfter(failures);
    this.#listen({ type: 'failed', connectionId, error, failures, retryIn });
    return retryIn;
  }

  #count(turn: Turn): void {
    const { page, requestTook, applyTook } = turn;
    if (this.#backlog.pages === 0) this.#backlog.since = performance.now() - requestTook - applyTook;
    this.#backlog.pages++;
    this.#backlog.records += recordsIn(turn);
    if (page.hasMore) return;
    const { pages, records, since } = this.#backlog;
    const took = performance.now() - since;
    if (pages > 1)
      this.#listen({ type: 'caught_up', connectionId: this.#connectionId, pages, records, took });
    this.#backlog = { pages: 0, records: 0, since: 0 };
  }
}

/** Records that a page brought, good and bad. */
export function recordsIn({ changes }: Turn): number {
  return changes.came.contact + changes.came.conversation + changes.came.message;
}
