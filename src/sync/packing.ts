import { entityOf } from '../entities.ts';
import { lazily } from '../lib/lazily.ts';
import type { Row } from '../model.ts';
import { type EncodedRows, encodeRows } from '../store/recordset.ts';
import { type Answer, type Page, parsePage } from '../upstream/page.ts';
import type { Batch } from './batches.ts';
import { type Changes, normalise } from './normalise.ts';
import { dateOf } from './subjects.ts';

/** A page that is checked and encoded for its statements. Its records are in memory no more. */
export interface PackedPage {
  readonly page: Answer;
  readonly changes: Changes;
}

/**
 * Checks a page and encodes it ahead of its turn, while Postgres writes the one before. Only bytes are kept: thousands
 * of objects that wait for their turn would be copied by every run of the garbage collector. Where a single row is asked
 * for, since Postgres refuses one or the quarantine holds one, the page is read from its bytes again.
 */
export function pack(page: Page, changes: Changes = normalise(page)): PackedPage {
  // No more than this may be held by what is kept.
  const { from, cursor, hasMore, body } = page;
  const again = lazily(() => normalise(parsePage(body, from)).batches);
  const batches = changes.batches.map(({ kind, partial, rows }, index) => {
    const oldest = kind === 'message' ? oldestOf(rows) : undefined;
    return new PackedBatch(kind, partial, encodeRows(entityOf(kind), rows), oldest, () => again()[index]!);
  });
  return { page: { from, cursor, hasMore, body }, changes: { ...changes, batches } };
}

class PackedBatch implements Batch {
  readonly kind: Batch['kind'];
  readonly partial: boolean;
  readonly encoded: EncodedRows;
  readonly oldest: number | undefined;
  readonly #unpack: () => Batch;

  constructor(
    kind: Batch['kind'],
    partial: boolean,
    encoded: EncodedRows,
    oldest: number | undefined,
    unpack: () => Batch,
  ) {
    this.kind = kind;
    this.partial = partial;
    this.encoded = encoded;
    this.oldest = oldest;
    this.#unpack = unpack;
  }

  get rows(): readonly Row[] {
    return this.#unpack().rows;
  }

  get json(): Batch['json'] {
    return this.#unpack().json;
  }

  get parts(): Batch['parts'] {
    return this.#unpack().parts;
  }
}

/** The date of the oldest, cut to the second: those that come behind it are known by their text, where reading each
 * date would take as long as writing it. */
function oldestOf(rows: readonly Row[]): number | undefined {
  let oldest = Number.POSITIVE_INFINITY;
  let text: string | undefined;
  for (const row of rows) {
    if (text !== undefined && typeof row.sent_at === 'string' && row.sent_at >= text) continue;
    const date = dateOf(row);
    if (date === undefined) return undefined;
    if (date >= oldest) continue;
    oldest = Math.floor(date / 1000) * 1000;
    text = new Date(oldest).toISOString().slice(0, 'YYYY-MM-DDThh:mm:ss'.length);
  }
  return oldest;
}
