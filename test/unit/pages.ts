/** Pages for the tests of what comes after the fetch, from the texts of their records. */

import type { Reject, Row } from '../../src/model.ts';
import { type Changes, normalise } from '../../src/sync/normalise.ts';
import { type ArrayName, type Page, parsePage } from '../../src/upstream/page.ts';

/** A record as the upstream may write it; an object stands for its JSON. */
export type Source = string | Buffer | object;

export const CURSOR = 4_611_686_018_427_387_905n;

/** A page of these records, read as an answer is: the bytes are those that were given, with space between. */
export function pageOf(array: ArrayName, records: readonly Source[]): Page {
  const elements = records.flatMap((record, index) => [
    Buffer.from(index === 0 ? ' ' : '\n , '),
    bytesOf(record),
  ]);
  const body = Buffer.concat([
    Buffer.from(`{"cursor":"${CURSOR}","has_more":false,"${array}":[`),
    ...elements,
    Buffer.from(']}'),
  ]);
  return parsePage(body, 0n);
}

export function bytesOf(record: Source): Buffer {
  if (Buffer.isBuffer(record)) return record;
  return Buffer.from(typeof record === 'string' ? record : JSON.stringify(record));
}

export function changesOf(array: ArrayName, ...records: readonly Source[]): Changes {
  return normalise(pageOf(array, records));
}

/** The row of the one record, as it goes to Postgres: JSON, so that every digit shows. */
export function rowOf(array: ArrayName, record: Source): string {
  const { batches, rejects } = changesOf(array, record);
  const rows = batches.flatMap((batch) => batch.rows);
  if (rows.length !== 1 || rejects.length > 0) {
    throw new Error(
      `not one row, but ${rows.length} and the rejects ${rejects.map((one) => one.code).join()}`,
    );
  }
  return JSON.stringify(rows[0]);
}

/** The same, parsed, for where no digits are at stake. */
export function parsedRow(array: ArrayName, record: Source): Row {
  return JSON.parse(rowOf(array, record)) as Row;
}

/** The reject of the one record, of which nothing else must be left. */
export function rejectOf(array: ArrayName, record: Source): Reject {
  const { batches, rejects } = changesOf(array, record);
  if (batches.length > 0 || rejects.length !== 1) throw new Error(`${rejects.length} rejects`);
  return rejects[0]!;
}
