import { type Options, Presets, SingleBar } from 'cli-progress';
import { plural } from '../lib/plural.ts';
import type { ConnectionId } from '../model.ts';
import type { PassResult } from '../sync/catch-up.ts';
import type { SyncEvent } from '../sync/events.ts';

/** How often a line is printed where there is no terminal, in milliseconds. */
const LINE_EVERY = 5_000;

/** How long a free lease may take to be claimed, in milliseconds: after that another worker has it. */
const CLAIMED_WITHIN = 1_000;

interface Counts {
  pages: number;
  records: number;
  written: number;
  unchanged: number;
  quarantined: number;
}

/** The progress of a pass: a bar on a terminal, a line now and then elsewhere, a summary at the end. */
export class PassProgress {
  readonly #stream: NodeJS.WriteStream;
  readonly #counts = new Map<ConnectionId, Counts>();
  readonly #done = new Set<ConnectionId>();
  /** Those that this process has or had, and those whose pass has ended: for the others another worker is waited for. */
  readonly #taken = new Set<ConnectionId>();
  #startedAt = performance.now();
  #total = 0;
  #bar: SingleBar | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  start(connections: number): void {
    this.#startedAt = performance.now();
    this.#total = connections;
    if (this.#stream.isTTY) {
      const format =
        '{bar} {value}/{total} connections · {pages} pages · {rows} rows · {rate} rows/s{others}';
      const options: Options = { format, stream: this.#stream, hideCursor: true, barsize: 24 };
      this.#bar = new SingleBar(options, Presets.shades_classic);
      this.#bar.start(connections, 0, this.#payload());
      // Where another worker has all of them nothing else tells so.
      this.#timer = setInterval(() => this.#bar?.update(this.#done.size, this.#payload()), CLAIMED_WITHIN);
    } else {
      this.#timer = setInterval(() => this.#stream.write(`${this.#line()}${this.#waiting()}\n`), LINE_EVERY);
    }
  }

  note(event: SyncEvent): void {
    if (event.type === 'lease_taken') this.#taken.add(event.connectionId);
    if (event.type !== 'page') return;
    const counts = this.#countsOf(event.connectionId);
    counts.pages++;
    counts.quarantined += event.quarantined;
    for (const tally of Object.values(event.tally)) {
      const written = tally.inserted + tally.updated + tally.amended;
      counts.written += written;
      counts.unchanged += tally.unchanged + tally.stale;
      counts.records += written + tally.unchanged + tally.stale;
    }
    if (!event.hasMore) this.#done.add(event.connectionId);
    this.#bar?.update(this.#done.size, this.#payload());
  }

  /** A pass has ended, here or where another worker has the connection. */
  ended({ connectionId, caughtUp }: PassResult): void {
    this.#taken.add(connectionId);
    if (caughtUp) this.#done.add(connectionId);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#bar?.stop();
    this.#bar = undefined;
  }

  /** A line per connection and one for all.
   * @param removed those that turned out to be there no longer. */
  summary(results: readonly PassResult[], removed: ReadonlySet<ConnectionId>): string {
    this.#total -= removed.size;
    const lines = results.map((result) => {
      const counts = this.#countsOf(result.connectionId);
      if (removed.has(result.connectionId))
        return `${result.connectionId}: removed: no key lists it any more; its rows stay\n`;
      if (!result.caughtUp) return `${result.connectionId}: not caught up: ${result.error}\n`;
      const by = result.byHolder ? ' by the running daemon' : `: ${describe(counts)}`;
      return `${result.connectionId}: caught up${by}\n`;
    });
    return `${lines.join('')}${this.#line()}\n`;
  }

  #line(): string {
    const { pages, rows, rate } = this.#payload();
    const done = `${this.#done.size}/${this.#total} connections`;
    // None came to this process: a running daemon has the connections, and fetches what there is.
    if (pages === 0) return done;
    return `${done}, ${plural(pages, 'page')}, ${plural(rows, 'row')}, ${rate} rows/s`;
  }

  #waiting(): string {
    const others = this.#others;
    return others === 0
      ? ''
      : `; waiting for the worker that holds ${others}, or until its leases end if it is dead`;
  }

  /** For how many connections another worker is waited for, which may have died. */
  get #others(): number {
    return performance.now() - this.#startedAt < CLAIMED_WITHIN ? 0 : this.#total - this.#taken.size;
  }

  #payload(): { pages: number; rows: number; rate: number; others: string } {
    let pages = 0;
    let rows = 0;
    for (const counts of this.#counts.values()) {
      pages += counts.pages;
      rows += counts.records;
    }
    const seconds = Math.max(0.001, (performance.now() - this.#startedAt) / 1000);
    const others = this.#others === 0 ? '' : ` · ${this.#others} of another worker`;
    return { pages, rows, rate: Math.round(rows / seconds), others };
  }

  #countsOf(connectionId: ConnectionId): Counts {
    let counts = this.#counts.get(connectionId);
    if (counts === undefined) {
      counts = { pages: 0, records: 0, written: 0, unchanged: 0, quarantined: 0 };
      this.#counts.set(connectionId, counts);
    }
    return counts;
  }
}

function describe(counts: Counts): string {
  const bad = counts.quarantined === 0 ? '' : `, ${counts.quarantined} quarantined`;
  return `${plural(counts.pages, 'page')}, ${plural(counts.written, 'row')} written, ${counts.unchanged} unchanged${bad}`;
}
