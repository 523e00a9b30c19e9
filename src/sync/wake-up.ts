import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from '../store/database.ts';
import { makeDueUnlessLocked } from '../store/due.ts';
import { announceDue } from '../store/notify.ts';
import type { Worker } from './worker.ts';

/** Pauses between attempts at a row that is locked, in milliseconds; each is twice the one before. */
const FIRST_PAUSE = 50;
const LAST_PAUSE = 10_000;

/**
 * Makes connections due at once, on whichever worker holds them: the loop here directly, one elsewhere by NOTIFY, and
 * in any case by `next_poll_at`, which its next renewal sees. What comes while one is under way is put together.
 */
export class WakeUp {
  readonly #db: Db;
  readonly #worker: Pick<Worker, 'wake'>;
  readonly #waiting = new Set<ConnectionId>();
  /** Those whose row was locked, and that are come back to. */
  readonly #locked = new Set<ConnectionId>();
  #next: Promise<void> | undefined;
  #current: Promise<void> = Promise.resolve();

  constructor(db: Db, worker: Pick<Worker, 'wake'>) {
    this.#db = db;
    this.#worker = worker;
  }

  /** Settles when the connection is due for whoever holds it.
   * @throws what Postgres throws; a loop here is awake all the same. */
  async wake(connectionIds: readonly ConnectionId[]): Promise<void> {
    const elsewhere: ConnectionId[] = [];
    for (const id of connectionIds) {
      // Woken here it needs no row: the loop is the one that would read it.
      if (!this.#worker.wake(id)) elsewhere.push(id);
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
    // The hint first: it is the quicker one.
    await announceDue(this.#db, ids);
    const locked = await makeDueUnlessLocked(this.#db, ids);
    if (locked.length > 0) void this.#later(locked);
  }

  /** A page in hand holds the lock of its row. Waiting for it would keep a connection of the leases' busy, and the
   * wake-ups of others waiting; it is come back to instead, as long as a page may last. */
  async #later(ids: readonly ConnectionId[]): Promise<void> {
    let left = ids.filter((id) => !this.#locked.has(id));
    for (const id of left) this.#locked.add(id);
    const mine = left;
    for (let pause = FIRST_PAUSE; left.length > 0 && pause < LAST_PAUSE; pause *= 2) {
      await sleep(pause, new AbortController().signal);
      left = await makeDueUnlessLocked(this.#db, left).catch(() => left);
    }
    for (const id of mine) this.#locked.delete(id);
  }
}
