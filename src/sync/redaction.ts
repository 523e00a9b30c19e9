import { withoutNames } from '../lib/identifiers.ts';
import { toJsonb } from '../lib/text.ts';
import type { Kind, Reject, Row } from '../model.ts';
import type { Batch } from './batches.ts';
import { readRecord } from './normalise.ts';
import { OPEN_FIELDS, type SubjectKind } from './subjects.ts';

/*
 * Records without what they say of a person who was erased (R20); the records themselves are not changed.
 */

type IsHidden = (name: string) => boolean;

/**
 * A batch of what is left of its rows; undefined where that is nothing.
 * @param judge what is left of a row, or why it must not be written.
 * @param dropped told of each row that must not.
 */
export function sift<V extends string>(
  batch: Batch,
  judge: (kind: Kind, row: Row) => Row | V,
  dropped: (why: V) => void,
): Batch | undefined {
  const came = new Map<Row, Row>();
  for (const row of batch.rows) {
    const left = judge(batch.kind, row);
    if (typeof left === 'string') dropped(left);
    else came.set(left as Row, row);
  }
  if (came.size === 0) return undefined;
  const rows = [...came.keys()];
  const { kind, partial, parts } = batch;
  // A row that is the same may be made of parts that are not.
  const isSame = rows.length === batch.rows.length && rows.every((row, at) => row === batch.rows[at]);
  if (isSame && parts === undefined) return batch;
  const partsLeft = rows.flatMap((row) => {
    const own = parts?.get(came.get(row)!);
    return own === undefined
      ? []
      : [[row, own.flatMap((part) => sift(part, judge, () => {}) ?? [])] as const];
  });
  // Not all that the batch has: what is encoded already has every row.
  return {
    kind,
    partial,
    rows,
    json: (row) => batch.json(came.get(row) ?? row),
    parts: parts && new Map(partsLeft),
  };
}

/** A row without mentions in the fields that are open, its members' too, and without members who are gone. */
export function withoutMentions(
  kind: Kind,
  row: Row,
  isHidden: IsHidden,
  isGone: (member: Row) => boolean,
): Row {
  const left = withoutNamesIn(kind, row, isHidden);
  if (kind !== 'conversation' || !Array.isArray(row.participants)) return left;
  const members = row.participants as readonly Row[];
  const rest = members
    .filter((member) => !isGone(member))
    .map((member) => withoutNamesIn('participant', member, isHidden));
  const isSame = rest.length === members.length && rest.every((member, at) => member === members[at]);
  return isSame ? left : { ...left, participants: rest };
}

/** A row without mentions in the fields that are open; the row itself where there are none. */
function withoutNamesIn(kind: SubjectKind, row: Row, isHidden: IsHidden): Row {
  let left = row;
  for (const field of OPEN_FIELDS[kind]) {
    const value = row[field];
    if (value === undefined || value === null) continue;
    const rest = withoutNames(value, isHidden);
    if (rest !== value) left = { ...left, [field]: rest };
  }
  return left;
}

/** The member that a record stands under which is no JSON object. */
const NO_OBJECT = 'record';

/** A record that cannot be stored, as it came. */
export function recordOf({ json }: Reject): Row {
  const record = readRecord(json);
  const isObject = typeof record === 'object' && record !== null && !Array.isArray(record);
  return isObject ? (record as Row) : { [NO_OBJECT]: record };
}

/** A record that cannot be stored, without mentions; undefined where nothing else is left of it. */
export function rejectWithout(reject: Reject, record: Row, isHidden: IsHidden): Reject | undefined {
  const left = withoutNames(record, isHidden);
  if (left === record) return reject;
  if (NO_OBJECT in record) return undefined;
  const json = jsonOf(left);
  return json === undefined ? undefined : { ...reject, json: Buffer.from(json) };
}

/** A value of the parsed answer as JSON, with every digit; undefined where it is nested too deep for `jsonb`. */
export function jsonOf(value: unknown): string | undefined {
  return JSON.stringify(toJsonb(value));
}
