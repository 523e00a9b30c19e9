import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { type Returned, releaseLeases } from '../store/leases.ts';
import type { Database } from '../store/schema.ts';

/**
 * Gives leases back. Those that end while a statement is under way go together with the next, so that the thousands of a
 * worker that ends do not wait for each other, nor anything else behind them.
 */
export class LeaseReturns {
  readonly #control: Kysely<Database>;
  /** What goes with the next statement, and the connections that it was done for. */
  #next: { readonly leases: Returned[]; readonly done: Promise<ReadonlySet<ConnectionId>> } | undefined;
  #underWay: Promise<unknown> = Promise.resolve();

  constructor(control: Kysely<Database>) {
    this.#control = control;
  }

  /** Resolves once it is given back, or was over. @throws what the database throws. */
  async give(lease: Returned): Promise<void> {
    this.#next ??= this.#begin();
    this.#next.leases.push(lease);
    const done = await this.#next.done;
    // Somebody has locked the row, and keeps nobody else waiting.
    if (!done.has(lease.connectionId)) await releaseLeases(this.#control, [lease], 'wait');
  }

  #begin() {
    const leases: Returned[] = [];
    const done = this.#underWay.then(() => {
      this.#next = undefined;
      return releaseLeases(this.#control, leases);
    });
    this.#underWay = done.catch(() => {});
    return { leases, done };
  }
}
