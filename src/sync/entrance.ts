import { MAX_DELAY } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { KeyGate } from './key-gate.ts';

interface Waiting {
  readonly connectionId: ConnectionId;
  readonly begin: () => void;
  ticket: number;
  /** The line that it stands in. */
  line: Waiting[];
}

/** Who waits for one key. */
export interface Lines {
  readonly gate: KeyGate;
  /** When a request of a slot began last: a reading of the monotonic clock. */
  askedAt: number;
  /** Who waits, in the order in which they came. */
  readonly line: Waiting[];
  /** Who goes behind all of these. */
  readonly behind: Waiting[];
  /** Who goes behind those too, and takes no room of theirs. */
  readonly beside: Waiting[];
}

/** A key that nobody has asked with, and nobody waits for. */
export function linesOf(gate: KeyGate): Lines {
  return { gate, askedAt: Number.NEGATIVE_INFINITY, line: [], behind: [], beside: [] };
}

/** A key that nobody has asked with for so long has no live loop here: one at rest asks every minute. Milliseconds. */
const ALONE_AFTER = 2 * 60_000;

/** Where requests wait, by their key, until there is room for them in the process and the key lets them in. */
export class Entrance {
  readonly #concurrency: number;
  readonly #keys: Lines[] = [];
  #inFlight = 0;
  #tickets = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param concurrency requests in flight at a time. */
  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  add(lines: Lines): void {
    this.#keys.push(lines);
  }

  /** Waits until a request of the key may begin.
   * @throws the signal's reason where it is aborted first. */
  async wait(connectionId: ConnectionId, line: Waiting[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const abort = () => {
        entry.line.splice(entry.line.indexOf(entry), 1);
        reject(signal.reason);
      };
      const begin = () => {
        signal.removeEventListener('abort', abort);
        resolve();
      };
      const entry: Waiting = { connectionId, begin, ticket: this.#tickets++, line };
      line.push(entry);
      signal.addEventListener('abort', abort, { once: true });
      this.next();
    });
  }

  /** A request of a slot ended. */
  leave(): void {
    this.#inFlight--;
    this.next();
  }

  /** A live request that has to wait for one of its own connection gives that its place: behind the live requests of all
   * others, both would wait as long as these have a backlog. */
  hurry(connectionId: ConnectionId): void {
    for (const { line, behind } of this.#keys) {
      const at = behind.findIndex((one) => one.connectionId === connectionId);
      const [entry] = at < 0 ? [] : behind.splice(at, 1);
      if (entry !== undefined) line.push(Object.assign(entry, { ticket: this.#tickets++, line }));
    }
  }

  /** Lets in whoever may begin now, and comes back when the next one may. */
  next(): void {
    clearTimeout(this.#timer);
    while (this.#inFlight < this.#concurrency) {
      const now = performance.now();
      const live = this.#firstOf(now, (state) => state.line);
      const behind = this.#firstOf(now, (state) => state.behind);
      const beside = this.#firstOf(now, (state) => state.beside, besideIn);
      const next = [live, behind, beside].find(({ first }) => first !== undefined);
      if (next?.first === undefined) {
        const soonest = Math.min(live.soonest, behind.soonest, beside.soonest);
        if (soonest !== Number.POSITIVE_INFINITY) {
          this.#timer = setTimeout(() => this.next(), Math.min(soonest, MAX_DELAY));
        }
        return;
      }
      const { state, line } = next.first;
      if (next !== beside) {
        this.#inFlight++;
        state.askedAt = now;
      }
      state.gate.enter(now);
      line.shift()!.begin();
    }
  }

  /** Whose turn it is among the lines, by the order in which they came; and how long until the next may begin. */
  #firstOf(
    now: number,
    lineOf: (state: Lines) => Waiting[],
    opensIn = ({ gate }: Lines, at: number) => gate.opensIn(at),
  ): { first: { state: Lines; line: Waiting[] } | undefined; soonest: number } {
    let first: { state: Lines; line: Waiting[] } | undefined;
    let soonest = Number.POSITIVE_INFINITY;
    for (const state of this.#keys) {
      const line = lineOf(state);
      if (line.length === 0) continue;
      const wait = opensIn(state, now);
      if (wait > 0) soonest = Math.min(soonest, wait);
      else if (first === undefined || line[0]!.ticket < first.line[0]!.ticket) first = { state, line };
    }
    return { first, soonest };
  }
}

/** Until one may begin beside the others: while the key's rate is to be found again, not before the live loops have done so. */
export function besideIn({ gate, askedAt }: Lines, now: number): number {
  return Math.max(gate.opensIn(now), gate.settled ? 0 : askedAt + ALONE_AFTER - now);
}
