import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Lease } from '../store/leases.ts';
import type { Database } from '../store/schema.ts';
import { type Position, readPosition } from '../store/state.ts';

export interface HeldLeaseContext {
  readonly db: Kysely<Database>;
  /** The worker's id. */
  readonly worker: string;
  /** Milliseconds. */
  readonly leaseTtl: number;
}

/** Share of the lease time for which a loop trusts its lease. */
const TRUSTED = 0.9;

/** A lease as its loop knows it: where the connection stands under it, and for how long it can be relied on. */
export class HeldLease {
  /** Where the connection stands, as far as this loop knows. */
  at: Position;
  readonly #context: HeldLeaseContext;
  readonly #connectionId: ConnectionId;
  #trustedUntil = 0;

  constructor(context: HeldLeaseContext, lease: Lease) {
    this.#context = context;
    this.#connectionId = lease.connectionId;
    this.at = lease;
  }

  get term(): string {
    return this.at.term;
  }

  /** Trusts the lease for less time than the database does, from the start of the attempt that claimed or extended it
   * (R15): a reading of the monotonic clock. */
  trustFrom(attemptedAt: number): void {
    this.#trustedUntil = Math.max(this.#trustedUntil, attemptedAt + this.#context.leaseTtl * TRUSTED);
  }

  /** False where the renewal is late: another may have the lease by now. */
  get isTrusted(): boolean {
    return performance.now() <= this.#trustedUntil;
  }

  /** Goes on from what is stored, as far as it can be read: a resync may have moved the cursor, and whether a commit that
   * failed took effect is not known.
   * @returns whether another has the lease. A renewal tells nothing of it: it passes over what is locked, too. */
  async isLost(): Promise<boolean> {
    const { db, worker } = this.#context;
    try {
      const stored = await readPosition(db, this.#connectionId, worker);
      if (stored?.term !== this.term) return true;
      this.at = stored;
    } catch {
      // The database is out of reach; the next page will be fenced if need be.
    }
    return false;
  }
}
