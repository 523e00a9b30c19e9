/**
 * A connection's stream of changes, as the sync endpoint reads it: an append-only list of (place, record) in which
 * a record that changed again has left a stale entry behind. Stale ones are skipped, and swept when they are many,
 * so a page costs what it holds, however large the world is.
 *
 * That `seq` is one counter per connection, that every change takes the next value and moves the record there, is
 * an assumption: the upstream's documents do not say.
 */
import type { AnyRecord } from './records.ts';

export interface LogPage {
  readonly records: readonly AnyRecord[];
  /** Place of the last record, or the place asked from when there is none. */
  readonly last: number;
  readonly more: boolean;
}

export class ChangeLog {
  /** The wire's seq of place 0, one below the first record's. */
  #base: bigint;
  #places: number[] = [];
  #records: AnyRecord[] = [];
  #last = 0;
  #live = 0;

  /** @param startSeq the seq that the first change gets. */
  constructor(startSeq: bigint) {
    this.#base = startSeq - 1n;
  }

  /** The newest seq given out, or one below the first. */
  get newest(): bigint {
    return this.#base + BigInt(this.#last);
  }

  /** How many changes there have been in this numbering. */
  get changes(): number {
    return this.#last;
  }

  /** How many entries it holds, stale ones included. */
  get entries(): number {
    return this.#places.length;
  }

  seqOf(record: AnyRecord): bigint {
    return this.#base + BigInt(record.seq);
  }

  seqAt(place: number): bigint {
    return this.#base + BigInt(place);
  }

  /** The place of a cursor: 0 for everything before this numbering, Infinity for all beyond 2^53 places. */
  placeOf(cursor: bigint): number {
    const place = cursor - this.#base;
    if (place <= 0n) return 0;
    return place > 9_007_199_254_740_991n ? Number.POSITIVE_INFINITY : Number(place);
  }

  /** Gives the record the next seq. */
  append(record: AnyRecord): void {
    if (record.seq === 0) this.#live++;
    record.seq = ++this.#last;
    this.#places.push(record.seq);
    this.#records.push(record);
    if (this.#places.length > 2 * this.#live + 1024) this.sweep(() => true);
  }

  /**
   * The records after a place, in order, at most `limit`, none beyond `until`.
   * @param visible whether the upstream still serves it (the 30-day window).
   */
  page(after: number, limit: number, visible: (record: AnyRecord) => boolean, until = this.#last): LogPage {
    const records: AnyRecord[] = [];
    let last = after;
    let more = false;
    let skipped = 0;
    for (let i = this.#firstAfter(after); i < this.#places.length; i++) {
      const place = this.#places[i]!;
      if (place > until) break;
      const record = this.#records[i]!;
      if (record.seq !== place) continue;
      if (!visible(record)) {
        skipped++;
        continue;
      }
      if (records.length === limit) {
        more = true;
        break;
      }
      records.push(record);
      last = place;
    }
    // What the window has passed never comes back unless it changes again; passing over it once is enough.
    if (skipped > 1024) this.sweep(visible);
    return { records, last, more };
  }

  /** Numbers every live record anew from `startSeq`, in the order in which they stand: a re-paired account.
   * Records that the window has passed, and that were dropped, are not part of it; their seq is then a number
   * of no meaning. */
  restart(startSeq: bigint): void {
    this.sweep(() => true);
    this.#base = startSeq - 1n;
    this.#last = this.#records.length;
    for (let i = 0; i < this.#records.length; i++) {
      this.#records[i]!.seq = i + 1;
      this.#places[i] = i + 1;
    }
  }

  /** Drops stale entries, and those that `keep` refuses. */
  sweep(keep: (record: AnyRecord) => boolean): void {
    let kept = 0; // written behind the reader, in place
    for (let i = 0; i < this.#places.length; i++) {
      const record = this.#records[i]!;
      const place = this.#places[i]!;
      if (record.seq !== place) continue;
      // A dropped record keeps its place, so that the truth can still tell its last seq.
      if (!keep(record)) continue;
      this.#places[kept] = place;
      this.#records[kept] = record;
      kept++;
    }
    this.#places.length = kept;
    this.#records.length = kept;
    this.#live = kept;
  }

  #firstAfter(place: number): number {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#places[middle]! <= place) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
