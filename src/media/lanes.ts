import type { ConnectionId } from '../model.ts';
import type { Room } from '../store/media-claims.ts';

/** Failures in a row after which a connection is held back: one that fails alone is that attachment's matter. */
const TOLERATED = 2;

interface Lane {
  inFlight: number;
  /** In a row, over all its attachments. */
  failures: number;
  /** A reading of the monotonic clock, in milliseconds: nothing is begun before. */
  opensAt: number;
  /** When the upstream last reached it; likewise. */
  reachedAt: number;
}

/**
 * How the connections share the downloads: one that hangs, fails or has a million of them has no more than half at a
 * time while there are others (R14), and none while it is held back.
 */
export class Lanes {
  readonly #concurrency: number;
  readonly #lanes = new Map<ConnectionId, Lane>();

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  /** What may be begun now, of these connections. */
  rooms(connectionIds: readonly ConnectionId[], now: number): Room[] {
    const most = connectionIds.length > 1 ? Math.ceil(this.#concurrency / 2) : this.#concurrency;
    return connectionIds.flatMap((connectionId) => {
      const lane = this.#lanes.get(connectionId);
      const room = most - (lane?.inFlight ?? 0);
      return room > 0 && (lane?.opensAt ?? 0) <= now ? [{ connectionId, room }] : [];
    });
  }

  /** Until the next connection opens that is held back now, in milliseconds; infinity where none is. */
  opensIn(now: number): number {
    const opening = [...this.#lanes.values()].map(({ opensAt }) => opensAt - now).filter((ms) => ms > 0);
    return Math.min(Number.POSITIVE_INFINITY, ...opening);
  }

  begin(connectionId: ConnectionId): void {
    this.#of(connectionId).inFlight++;
  }

  end(connectionId: ConnectionId): void {
    this.#of(connectionId).inFlight--;
  }

  /** The upstream served something of it, or said that there is nothing.
   * @returns how many failures that ends; 0 where it was not held back. */
  answered(connectionId: ConnectionId): number {
    const lane = this.#of(connectionId);
    const ended = lane.failures > TOLERATED ? lane.failures : 0;
    lane.failures = 0;
    lane.opensAt = 0;
    return ended;
  }

  /** The upstream reaches it: it served something of it, or told how it stands, to a request of that moment. */
  reached(connectionId: ConnectionId, at: number): void {
    const lane = this.#of(connectionId);
    lane.reachedAt = Math.max(lane.reachedAt, at);
  }

  /** Whether it was reached since then. */
  isReached(connectionId: ConnectionId, since: number): boolean {
    return this.#of(connectionId).reachedAt >= since;
  }

  /** Counts a failure.
   * @param weight 1 for one that may be the attachment's; more where it is surely the connection's.
   * @returns failures in a row beyond what is tolerated: 0 where it goes on. */
  failed(connectionId: ConnectionId, weight: 1 | 'whole'): number {
    const lane = this.#of(connectionId);
    lane.failures = weight === 1 ? lane.failures + 1 : Math.max(TOLERATED, lane.failures) + 1;
    return Math.max(0, lane.failures - TOLERATED);
  }

  hold(connectionId: ConnectionId, until: number): void {
    const lane = this.#of(connectionId);
    lane.opensAt = Math.max(lane.opensAt, until);
  }

  #of(connectionId: ConnectionId): Lane {
    let lane = this.#lanes.get(connectionId);
    if (lane === undefined) {
      lane = { inFlight: 0, failures: 0, opensAt: 0, reachedAt: Number.NEGATIVE_INFINITY };
      this.#lanes.set(connectionId, lane);
    }
    return lane;
  }
}
