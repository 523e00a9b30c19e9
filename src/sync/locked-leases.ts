import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { lockedLeases } from '../store/leases.ts';
import type { Database } from '../store/schema.ts';
import type { Listener } from './events.ts';

/**
 * Tells of connections that nobody replicates since a stranger has locked their row: a session that somebody forgot in a
 * transaction, or a prepared transaction that is not ended. Who claims leases passes over what is locked, and so would do
 * nothing, and say nothing, for as long as that lasts.
 */
export class LockedLeases {
  readonly #control: Kysely<Database>;
  readonly #patience: number;
  readonly #listen: Listener;
  #since = Number.POSITIVE_INFINITY;
  readonly #looks = new Map<ConnectionId, number>();

  /** @param leaseTtl milliseconds: whoever writes is done with a row by then, but for an erasure. */
  constructor(
    { control, leaseTtl }: { readonly control: Kysely<Database>; readonly leaseTtl: number },
    listen: Listener,
  ) {
    this.#control = control;
    this.#patience = leaseTtl;
    this.#listen = listen;
  }

  /** A claim found leases free. @param ids of whom, where it could take none of them; none where it did. */
  async passedOver(ids: readonly ConnectionId[]): Promise<void> {
    const now = performance.now();
    this.#since = ids.length === 0 ? Number.POSITIVE_INFINITY : Math.min(this.#since, now);
    if (!(now - this.#since > this.#patience)) {
      this.#looks.clear();
      return;
    }
    const locked = await lockedLeases(this.#control, ids);
    for (const id of this.#looks.keys()) if (!locked.includes(id)) this.#looks.delete(id);
    for (const connectionId of locked) {
      const looks = (this.#looks.get(connectionId) ?? 0) + 1;
      this.#looks.set(connectionId, looks);
      this.#listen({ type: 'lease_locked', connectionId, looks });
    }
  }
}
