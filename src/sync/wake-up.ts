import type { ConnectionId } from '../model.ts';
import type { Db } from '../store/database.ts';
import { announceDue } from '../store/notify.ts';
import { makeDue } from '../store/state.ts';
import type { Worker } from './worker.ts';

/**
 * Makes connections due at once, on whichever worker holds them: the loop here directly, one elsewhere by NOTIFY, and
 * in any case by `next_poll_at`, which its next renewal sees. What comes while one is under way is put together.
 */
export class WakeUp {
  readonly #db: Db;
  readonly #worker: Worker;
  readonly #waiting = new Set<ConnectionId>();
  #next: Promise<void> | undefined;
  #current: Promise<void> = Promise.resolve();

  constructor(db: Db, worker: Worker) {
    this.#db = db;
    this.#worker = worker;
  }

  /** Settles when the connection is due for whoever holds it.
   * @throws what Postgres throws; a loop here is awake all the same. */
  async wake(connectionIds: readonly ConnectionId[]): Promise<void> {
    const elsewhere: ConnectionId[] = [];
    for (const id of connectionIds) {
      // Woken here it needs no row: the loop is the one that would read it.
      if (this.#worker.holds(id)) this.#worker.wake(id);
      else elsewhere.push(id);
    }
    if (elsewhere.length === 0) return;
    for (const id of elsewhere) this.#waiting.add(id);
    this.#next ??= this.#current.then(
      () => this.#flush(),
      () => this.#flush(),
    );
    await this.#next;
  }

  async #flush(): Promise<void> {
    const ids = [...this.#waiting];
    this.#waiting.clear();
    this.#current = this.#next ?? Promise.resolve();
    this.#next = undefined;
    // The hint first: a page in hand holds its row's lock, and must not keep the others waiting.
    await announceDue(this.#db, ids);
    await makeDue(this.#db, ids);
  }
}
