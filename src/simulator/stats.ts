/** What was asked of the simulator, for tests and for its control API. */

export interface RequestEntry {
  readonly route: string;
  /** Empty where the request meant none. */
  readonly connection: string;
  readonly query: string;
  /** 0 = no answer. */
  readonly status: number;
  readonly fault: string | null;
}

/** How many requests are remembered one by one. */
const KEPT = 10_000;

export class Stats {
  /** Requests by route and status (`sync 200`), faults by their kind (`sync drop`). */
  readonly served: Record<string, number> = {};
  /** The latest, oldest first. */
  readonly recent: RequestEntry[] = [];
  /** The most requests at one time, by connection; under the empty name, in all. */
  readonly mostInFlight: Record<string, number> = {};
  total = 0;
  /** Called with each request as it is answered. */
  onRequest: ((entry: RequestEntry) => void) | null = null;
  readonly #inFlight = new Map<string, number>();

  /** Counts a request in; the function returned counts it out. */
  begin(connection: string): () => void {
    const names = connection === '' ? [''] : ['', connection];
    for (const name of names) {
      const count = (this.#inFlight.get(name) ?? 0) + 1;
      this.#inFlight.set(name, count);
      this.mostInFlight[name] = Math.max(this.mostInFlight[name] ?? 0, count);
    }
    return () => {
      for (const name of names) this.#inFlight.set(name, this.#inFlight.get(name)! - 1);
    };
  }

  inFlight(connection = ''): number {
    return this.#inFlight.get(connection) ?? 0;
  }

  record(entry: RequestEntry): void {
    this.total++;
    const name = `${entry.route} ${entry.status === 0 ? entry.fault : entry.status}`;
    this.served[name] = (this.served[name] ?? 0) + 1;
    this.recent.push(entry);
    if (this.recent.length > 2 * KEPT) this.recent.splice(0, KEPT);
    this.onRequest?.(entry);
  }

  toJSON(): object {
    const { total, served, mostInFlight } = this;
    return { total, served, most_in_flight: mostInFlight };
  }
}
