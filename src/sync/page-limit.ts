/** Where halving after a 400 ends, and the limit of a probe (R6). */
export const LOWEST_AFTER_REFUSAL = 50;
/** Good pages after which the limit doubles. */
const GOOD_PAGES_PER_STEP = 10;
/** At a limit of 1, an answer may be this many times as large (R19). */
const LAST_RESORT = 4;

/** What is learnt of a key's greatest limit, shared by its connections. */
export interface LimitCap {
  most: number;
}

/**
 * The `limit` that a connection's requests ask for. Halved when an answer is too large, too slow or refused, and
 * doubled again after ten good pages that had more behind them (R19).
 */
export class PageLimit {
  readonly #cap: LimitCap;
  readonly #most: number;
  readonly #maxBytes: number;
  #current: number;
  #good = 0;
  /** The limit before a row of refusals, to go back to where the limit was not the reason. */
  #beforeRefusals: number | undefined;
  #bytesPerRecord = 1024;
  #expected = 0;

  constructor(start: number, most: number, maxBytes: number, cap: LimitCap) {
    this.#current = start;
    this.#most = Math.max(start, most);
    this.#maxBytes = maxBytes;
    this.#cap = cap;
  }

  get current(): number {
    return Math.min(this.#current, this.#cap.most);
  }

  /** The bound on the answer's bytes. */
  get maxBytes(): number {
    return this.current === 1 ? this.#maxBytes * LAST_RESORT : this.#maxBytes;
  }

  /** What an answer is expected to weigh, for the budget. */
  get expectedBytes(): number {
    const likely = Math.max(65_536, Math.ceil(this.#bytesPerRecord * this.current * 1.5));
    return Math.min(this.maxBytes, Math.max(likely, this.#expected));
  }

  /** The next answer is expected to weigh at least so many bytes; until one was had. */
  expect(bytes: number): void {
    this.#expected = Math.max(this.#expected, bytes);
  }

  /** A page that was had and written. */
  good(records: number, bytes: number, hasMore: boolean): void {
    if (records > 0) this.#bytesPerRecord = bytes / records;
    this.#expected = 0;
    if (this.#beforeRefusals !== undefined) {
      // A lower limit passed where a higher one did not: that is the key's bound from now on.
      this.#cap.most = this.current;
      this.#beforeRefusals = undefined;
    }
    if (!hasMore || ++this.#good < GOOD_PAGES_PER_STEP) return;
    this.#good = 0;
    const next = Math.min(this.#current * 2, this.#most);
    // The next page must be likely to fit, or growth would end in an oversized answer each time.
    if (next * this.#bytesPerRecord <= this.#maxBytes / 2) this.#current = next;
  }

  /** After an answer that was too large or too slow. False at `least`: there is nothing left to halve. */
  shrink(least: number): boolean {
    this.#good = 0;
    if (this.current <= least) return false;
    this.#current = Math.max(least, Math.floor(this.current / 2));
    return true;
  }

  /** After a 400, which may mean the limit. False at 50: then it means something else. */
  refused(): boolean {
    if (this.current <= LOWEST_AFTER_REFUSAL) return false;
    this.#beforeRefusals ??= this.current;
    this.#current = Math.max(LOWEST_AFTER_REFUSAL, Math.floor(this.current / 2));
    return true;
  }

  /** The refusals meant something else than the limit. */
  acquitted(): void {
    if (this.#beforeRefusals !== undefined) this.#current = this.#beforeRefusals;
    this.#beforeRefusals = undefined;
  }
}
