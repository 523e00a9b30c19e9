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
/** Bytes of UTF-8 that a UTF-16 unit makes at most. */
const MAX_EXPANSION = 3;
/** A longer scratch is not kept: one page of huge texts must not hold memory for ever. */
const MAX_KEPT = 4 * 1024 ** 2;

let kept: Buffer = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * @param values text (a `timestamptz` as `parseTime` writes it, a `bigint` as decimal digits, `jsonb` as its JSON text),
 * or booleans; null and undefined are null.
 * @returns undefined where all are null.
 */
export function binaryArray(type: ElementType, values: readonly unknown[]): Buffer | undefined {
  const writer = new Writer(kept);
  let nulls = false;
  let any = false;
  for (const value of values) {
    if (value === undefined || value === null) {
      nulls = true;
      writer.int32(-1);
    } else {
      any = true;
      writer.element(type, value);
    }
  }
  if (!any) return undefined;
  const array = writer.finish(nulls, OID[type], values.length);
  if (writer.capacity <= MAX_KEPT) kept = writer.scratch;
  return array;
}

/** Writes into a scratch that grows; what is handed out is a copy of its own. */
class Writer {
  scratch: Buffer;
  #at = HEADER;

  constructor(scratch: Buffer) {
    this.scratch = scratch;
  }

  get capacity(): number {
    return this.scratch.length;
  }

  element(type: ElementType, value: unknown): void {
    switch (type) {
      case 'boolean':
        this.int32(1);
        this.#room(1);
        this.scratch[this.#at++] = value === true ? 1 : 0;
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

  int32(value: number): void {
    this.#room(4);
    this.#at = this.scratch.writeInt32BE(value, this.#at);
  }

  finish(nulls: boolean, oid: number, length: number): Buffer {
    const head = this.scratch;
    head.writeInt32BE(1, 0);
    head.writeInt32BE(nulls ? 1 : 0, 4);
    head.writeInt32BE(oid, 8);
    head.writeInt32BE(length, 12);
    head.writeInt32BE(1, 16);
    const array = Buffer.allocUnsafeSlow(this.#at);
    head.copy(array, 0, 0, this.#at);
    return array;
  }

  /** @param versioned jsonb begins with the version of its format. */
  #text(text: string, versioned: boolean): void {
    this.#room(5 + text.length * MAX_EXPANSION);
    const start = this.#at + 4;
    let at = start;
    if (versioned) this.scratch[at++] = 1;
    at += this.scratch.write(text, at);
    this.scratch.writeInt32BE(at - start, this.#at);
    this.#at = at;
  }

  #int64(digits: string): void {
    this.#room(8);
    if (digits.length <= SAFE_DIGITS) this.#safe(Number(digits));
    else this.#at = this.scratch.writeBigInt64BE(BigInt(digits), this.#at);
  }

  #time(time: string): void {
    this.#room(8);
    const { seconds, microseconds } = sinceEpoch(time);
    const total = seconds * 1e6 + microseconds;
    if (Number.isSafeInteger(total)) this.#safe(total);
    else
      this.#at = this.scratch.writeBigInt64BE(BigInt(seconds) * 1_000_000n + BigInt(microseconds), this.#at);
  }

  /** In two halves: a bigint costs four times as much. */
  #safe(value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.scratch.writeInt32BE(high, this.#at);
    this.#at = this.scratch.writeUInt32BE(value - high * 2 ** 32, this.#at + 4);
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.scratch.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.scratch.length * 2, this.#at + bytes));
    this.scratch.copy(larger, 0, 0, this.#at);
    this.scratch = larger;
  }
}

const SAFE_DIGITS = 15;
/** Days from 0000-03-01 to 2000-01-01, where Postgres' time begins. */
const EPOCH_DAYS = 730_425;

/** A time as `parseTime` writes it: `2026-11-01T10:00:00.123456Z`, with fewer digits of a second or none. */
function sinceEpoch(time: string): { seconds: number; microseconds: number } {
  const number = (from: number, to: number) => {
    let value = 0;
    for (let at = from; at < to; at++) value = value * 10 + time.charCodeAt(at) - 48;
    return value;
  };
  const month = number(5, 7);
  // Years that begin in March: the leap day is the last one of its year.
  const year = number(0, 4) - (month < 3 ? 1 : 0);
  const days =
    365 * year +
    Math.floor(year / 4) -
    Math.floor(year / 100) +
    Math.floor(year / 400) +
    Math.floor((153 * ((month + 9) % 12) + 2) / 5) +
    number(8, 10) -
    1;
  const ofDay = number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
  const digits = Math.max(0, time.length - 21);
  return {
    seconds: (days - EPOCH_DAYS) * 86_400 + ofDay,
    microseconds: digits === 0 ? 0 : number(20, 20 + digits) * 10 ** (6 - digits),
  };
}
