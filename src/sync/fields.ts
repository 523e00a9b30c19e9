import type { FieldType } from '../entities.ts';
import { exactNumber } from '../lib/exact-json.ts';
import { parseTime } from '../lib/rfc3339.ts';
import { define, MAX_DEPTH, toJsonb } from '../lib/text.ts';
import type { Json, Row } from '../model.ts';

/** Longest id or JID, in bytes of UTF-8: an index entry of Postgres must stay under about 2,700 (R9). */
const MAX_ID_BYTES = 1024;

/** Why a record or a participant cannot be stored (R9). */
export class Refusal {
  /** Stable, for people to filter by. */
  readonly code:
    | 'not_an_object'
    | 'id_missing'
    | 'id_too_long'
    | 'seq_invalid'
    | 'type_mismatch'
    | 'time_invalid'
    | 'too_deep';
  /** Names the field, never its value (R18). */
  readonly reason: string;
  constructor(code: Refusal['code'], reason: string) {
    this.code = code;
    this.reason = reason;
  }
}

/**
 * Reads the fields of one kind of record. The known ones are asked for by name, in one order for all, so that all rows
 * get one shape; the record's own names are gone through only where there are others.
 */
export class FieldReader {
  readonly #fields: readonly (readonly [name: string, type: FieldType])[];
  readonly #own: readonly string[];
  readonly #known: ReadonlySet<string>;
  readonly #blank: Row;

  /**
   * @param own fields that the caller handles itself.
   * @param made what the caller puts into a row that does not come.
   */
  constructor(
    fields: Readonly<Record<string, FieldType>>,
    own: readonly string[],
    made: readonly string[] = [],
  ) {
    this.#fields = Object.entries(fields);
    this.#own = own;
    this.#known = new Set([...Object.keys(fields), ...own]);
    this.#blank = Object.fromEntries(
      [...own, ...made, ...Object.keys(fields), 'extra'].map((name) => [name, undefined]),
    );
  }

  /** A row with a place for all that it may tell, undefined as yet: one that grew to it would take five times the memory. */
  blank(): Row {
    return { ...this.#blank };
  }

  /** Checks the known fields into `row`, one of {@link blank}'s, and puts the unknown ones into `row.extra`. */
  read(came: Record<string, unknown>, row: Row): Refusal | undefined {
    let known = 0;
    for (const name of this.#own) if (came[name] !== undefined) known++;
    for (const [name, type] of this.#fields) {
      const value = came[name];
      if (value === undefined) continue;
      known++;
      if (value === null) continue;
      const checked = checkField(value, type, name);
      if (checked instanceof Refusal) return checked;
      if (checked !== null) row[name] = checked;
    }
    // Counted without a list of them, which a page would have one of for every record.
    let names = 0;
    for (const _ in came) names++;
    return names === known ? undefined : this.#readOthers(came, row);
  }

  #readOthers(came: Record<string, unknown>, row: Row): Refusal | undefined {
    const extra: Record<string, Json> = {};
    for (const name in came) {
      if (this.#known.has(name)) continue;
      const kept = toJsonb(came[name], 1);
      if (kept === undefined) {
        return new Refusal('too_deep', `an unknown field is nested over ${MAX_DEPTH} deep`);
      }
      define(extra, name, kept);
      row.extra = extra;
    }
    return undefined;
  }
}

function checkField(value: unknown, type: FieldType, name: string): unknown {
  if (type === 'boolean') {
    return typeof value === 'boolean' ? value : new Refusal('type_mismatch', `"${name}" is not a boolean`);
  }
  if (type === 'object') {
    if (typeof value !== 'object' || Array.isArray(value)) {
      return new Refusal('type_mismatch', `"${name}" is not an object`);
    }
    return toJsonb(value, 1) ?? new Refusal('too_deep', `"${name}" is nested over ${MAX_DEPTH} deep`);
  }
  if (typeof value !== 'string' || exactNumber(value) !== undefined) {
    return new Refusal('type_mismatch', `"${name}" is not a string`);
  }
  if (type === 'time') {
    const time = parseTime(value);
    return time === undefined ? new Refusal('time_invalid', `"${name}" is no RFC 3339 time`) : time;
  }
  return type === 'id' && isTooLong(value)
    ? new Refusal('id_too_long', `"${name}" has over ${MAX_ID_BYTES} bytes`)
    : value;
}

function isTooLong(text: string): boolean {
  return text.length * 3 > MAX_ID_BYTES && Buffer.byteLength(text) > MAX_ID_BYTES;
}

/** An id that is there, is text and is not too long. */
export function checkId(value: unknown, name: string): string | Refusal {
  if (value === undefined || value === null) return new Refusal('id_missing', `"${name}" is missing`);
  if (typeof value !== 'string' || exactNumber(value) !== undefined) {
    return new Refusal('type_mismatch', `"${name}" is not a string`);
  }
  if (value === '') return new Refusal('id_missing', `"${name}" is empty`);
  return isTooLong(value) ? new Refusal('id_too_long', `"${name}" has over ${MAX_ID_BYTES} bytes`) : value;
}
