import { Scratch } from '../lib/scratch.ts';

/**
 * Postgres arrays of one dimension in the binary format of the wire protocol: nothing is escaped here nor unescaped
 * there, and times and integers need not be parsed again.
 */

/** The element types that are written, with their object ids, which are the same in every Postgres. */
const OID = { text: 25, boolean: 16, bigint: 20, timestamptz: 1184, jsonb: 3802 } as const;
export type ElementType = keyof typeof OID;

export function isElementType(type: string): type is ElementType {
  return type in OID;
}

const HEADER = 20;

/**
 * @param valueIn a row's: text (a `timestamptz` as `parseTime` writes it, a `bigint` as decimal digits, `jsonb` as its
 * JSON text) or a boolean; null and undefined are null.
 * @returns undefined where all are null.
 */
export function binaryArray<T>(
  type: ElementType,
  rows: readonly T[],
  valueIn: (row: T) => unknown,
): Buffer | undefined {
  writer.begin(HEADER);
  let nulls = false;
  let any = false;
  for (const row of rows) {
    const value = valueIn(row);
    if (value === undefined || value === null) {
      nulls = true;
      writer.int32(-1);
    } else {
      any = true;
      writer.element(type, value);
    }
  }
  return any ? writer.array(nulls, OID[type], rows.length) : undefined;
}

class ArrayWriter extends Scratch {
  element(type: ElementType, value: unknown): void {
    switch (type) {
      case 'boolean':
        this.int32(1);
        this.byte(value === true ? 1 : 0);
        break;
      case 'bigint':
        this.int32(8);
        this.#int64(value as string);
        break;
      case 'timestamptz':
        this.int32(8);
        this.#time(value as string);
        break;
      default:
        this.#text(value as string, type === 'jsonb');
    }
  }

  /** What was written, as an array with memory of its own. */
  array(nulls: boolean, oid: number, length: number): Buffer {
    const { bytes, at } = this;
    for (const [index, value] of [1, nulls ? 1 : 0, oid, length, 1].entries())
      bytes.writeInt32BE(value, index * 4);
    const array = Buffer.allocUnsafeSlow(at);
    bytes.copy(array, 0, 0, at);
    this.end();
    return array;
  }

  /** @param versioned jsonb begins with the version of its format. */
  #text(text: string, versioned: boolean): void {
    this.int32(0);
    const start = this.at;
    if (versioned) this.byte(1);
    this.text(text);
    this.bytes.writeInt32BE(this.at - start, start - 4);
  }

  #int64(digits: string): void {
    if (digits.length <= SAFE_DIGITS) this.#safe(Number(digits));
    else this.#exact(BigInt(digits));
  }

  #time(time: string): void {
    const seconds = secondsSinceEpoch(time);
    const microseconds = microsecondsOf(time);
    const total = seconds * 1e6 + microseconds;
    if (Number.isSafeInteger(total)) this.#safe(total);
    else this.#exact(BigInt(seconds) * 1_000_000n + BigInt(microseconds));
  }

  #exact(value: bigint): void {
    this.room(8);
    this.at = this.bytes.writeBigInt64BE(value, this.at);
  }

  /** In two halves: a bigint costs four times as much. */
  #safe(value: number): void {
    this.room(8);
    const high = Math.floor(value / 2 ** 32);
    this.at = this.bytes.writeInt32BE(high, this.at);
    this.at = this.bytes.writeUInt32BE(value - high * 2 ** 32, this.at);
  }
}

const writer = new ArrayWriter(256 * 1024);

const SAFE_DIGITS = 15;
/** Days from 0000-03-01 to 2000-01-01, where Postgres' time begins. */
const EPOCH_DAYS = 730_425;

/** Of a time as `parseTime` writes it: `2026-11-01T10:00:00.123456Z`, with fewer digits of a second or none. */
function secondsSinceEpoch(time: string): number {
  const month = number(time, 5, 7);
  // Years that begin in March: the leap day is the last one of its year.
  const year = number(time, 0, 4) - (month < 3 ? 1 : 0);
  const days =
    365 * year +
    Math.floor(year / 4) -
    Math.floor(year / 100) +
    Math.floor(year / 400) +
    Math.floor((153 * ((month + 9) % 12) + 2) / 5) +
    number(time, 8, 10) -
    1;
  const ofDay = number(time, 11, 13) * 3600 + number(time, 14, 16) * 60 + number(time, 17, 19);
  return (days - EPOCH_DAYS) * 86_400 + ofDay;
}

function microsecondsOf(time: string): number {
  const digits = Math.max(0, time.length - 21);
  return digits === 0 ? 0 : number(time, 20, 20 + digits) * 10 ** (6 - digits);
}

function number(time: string, from: number, to: number): number {
  let value = 0;
  for (let at = from; at < to; at++) value = value * 10 + time.charCodeAt(at) - 48;
  return value;
}
