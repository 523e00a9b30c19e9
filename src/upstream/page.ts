import { ReplicaError } from '../errors/errors.ts';
import { int64, parseExact } from '../lib/exact-json.ts';
import { sliceArray } from '../lib/json-slice.ts';
import type { Cursor } from '../model.ts';

/** The arrays of a sync answer, by the upstream's names. */
export type ArrayName = 'conversations' | 'contacts' | 'messages';

/** One answer of the sync endpoint, without what is in its records. */
export interface Answer {
  /** The cursor that was sent. */
  readonly from: Cursor;
  /** The cursor to send next. */
  readonly cursor: Cursor;
  readonly hasMore: boolean;
  /** The answer's bytes. */
  readonly body: Buffer;
}

/** An answer that was read whole and checked (R11), its text mended (R10); the records in it are not checked yet. */
export interface Page extends Answer {
  readonly records: Readonly<Record<ArrayName, readonly unknown[]>>;
}

/** Why an answer is no page. Its message holds nothing of the answer (R18). */
export class PageError extends Error {
  override name = 'PageError';
}

/**
 * Reads an answer of `GET /v1/whatsapp/sync` (R11).
 * @param body the whole body.
 * @param from the cursor that was sent.
 * @throws PageError where it is not complete JSON of the documented shape.
 */
export function parsePage(body: Buffer, from: Cursor): Page {
  const fields = readAnswer(body);
  const digits = int64(fields.cursor);
  if (digits === undefined) throw new PageError('"cursor" is not an integer from 0 to 2^63-1');
  const cursor = BigInt(digits);
  const hasMore = fields.has_more ?? cursor !== from;
  if (typeof hasMore !== 'boolean') throw new PageError('"has_more" is not a boolean');
  return {
    from,
    cursor,
    hasMore,
    records: {
      conversations: arrayOf(fields, 'conversations'),
      contacts: arrayOf(fields, 'contacts'),
      messages: arrayOf(fields, 'messages'),
    },
    body,
  };
}

/** The same as {@link parsePage}, for whoever lives by the kinds of errors.
 * @throws ReplicaError `protocol`. */
export function readPage(body: Buffer, from: Cursor): Page {
  try {
    return parsePage(body, from);
  } catch (error) {
    if (error instanceof PageError) throw new ReplicaError('protocol', { where: error.message });
    throw error;
  }
}

/** An answer as an object, its text mended.
 * @throws PageError where it is no complete JSON object. */
export function readAnswer(body: Buffer): Record<string, unknown> {
  let answer: unknown;
  try {
    answer = parseExact(body);
  } catch {
    throw new PageError(
      /^\s*</.test(body.toString('utf8', 0, 1024))
        ? 'the answer is HTML, not JSON'
        : 'the answer is not complete JSON',
    );
  }
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) {
    throw new PageError('the answer is JSON, but no object');
  }
  return answer as Record<string, unknown>;
}

/** The bytes of every record of an array, as they came; for records that go to quarantine. */
export function recordBytes(page: Answer, array: ArrayName): Buffer[] {
  return sliceArray(page.body, array);
}

/** @throws PageError where it is there and no array. */
export function arrayOf(fields: Record<string, unknown>, name: string): readonly unknown[] {
  const value = fields[name] ?? [];
  if (!Array.isArray(value)) throw new PageError(`"${name}" is not an array`);
  return value;
}
