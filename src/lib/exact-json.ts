import { randomBytes } from 'node:crypto';
import type { Json } from '../model.ts';
import {
  BACKSLASH,
  COLON,
  isNumberPart,
  LOWER_U,
  MINUS,
  NINE,
  QUOTE,
  skipSpace,
  startOf,
  ZERO,
} from './json-bytes.ts';
import { Scratch } from './scratch.ts';
import { define, mendSource } from './text.ts';

/**
 * JSON with exact numbers (R4). A JavaScript number holds 53 bits; the upstream's `seq` and `cursor` are
 * int64, and `media` may hold numbers as large. So every number that might lose digits is put into a string
 * before `JSON.parse` sees it, behind a mark that no answer can contain, because it is drawn per process.
 *
 * Rejected: a reviver with `context.source` (four times as slow on a page, it is called for every value), and
 * a JSON library of our own making.
 */
const MARK_CODE = 0x7f;
const MARK = `${String.fromCharCode(MARK_CODE)}${randomBytes(8).toString('hex')}:`;
const MARK_IN_JSON = Buffer.from(`"${MARK}`);

/**
 * Nor does `JSON.parse` see a key with escapes: V8 (from 12.8 on, so Node 24 and 26) takes it for another one that an
 * object of any earlier text had in its place, where that has a backslash in it and is how the key's source begins
 * (nodejs/node#63785). A key that can do without escapes is put so; any other stands under a name of ours meanwhile.
 */
const KEY_MARK = randomBytes(12).toString('hex');

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** Digits that a double always holds exactly. */
const SAFE_LENGTH = 15;

/** For what `JSON.parse` gets. */
const scratch = new Scratch(1024 ** 2);

/**
 * Parses JSON, without what Postgres cannot hold in texts and keys (R10); numbers that a double may not hold come back as
 * marked strings (see {@link exactNumber}).
 * @param source UTF-8; what is none of it becomes U+FFFD. A byte order mark may lead it.
 * @throws SyntaxError where it is no JSON.
 */
export function parseExact(source: Buffer): unknown {
  const keys: string[] = [];
  const value: unknown = JSON.parse(marked(source, keys));
  if (keys.length > 0) restoreKeys(value, keys);
  return value;
}

/** The digits of a marked number, or undefined where `value` is anything else. */
export function exactNumber(value: unknown): string | undefined {
  return typeof value === 'string' && value.charCodeAt(0) === MARK_CODE && value.startsWith(MARK)
    ? value.slice(MARK.length)
    : undefined;
}

/** Whether a value of the parsed JSON is a number, marked or not. */
export function isNumber(value: unknown): boolean {
  return typeof value === 'number' || exactNumber(value) !== undefined;
}

/** Digits as a value that `JSON.stringify` writes as they are. */
export function rawNumber(digits: string): Json {
  return JSON.rawJSON(digits) as unknown as Json;
}

const MAX_INT64 = 9223372036854775807n;
const MAX_INT64_LENGTH = 19;

/**
 * An int64 that is not negative, as decimal digits without leading zeros; undefined for anything else. Takes
 * a JSON integer or its decimal string (R11), since encoders of int64 commonly write the string.
 */
export function int64(value: unknown): string | undefined {
  if (typeof value === 'number') {
    return Number.isSafeInteger(value) && value >= 0 ? String(value) : undefined;
  }
  const digits = exactNumber(value) ?? value;
  if (typeof digits !== 'string' || !/^\d{1,40}$/.test(digits)) return undefined;
  if (digits.length < MAX_INT64_LENGTH && digits.charCodeAt(0) !== 48) return digits;
  const parsed = BigInt(digits);
  return parsed <= MAX_INT64 ? parsed.toString() : undefined;
}

/**
 * The text with marked numbers and without escapes in keys, mended (R10). The bytes are gone through and not the text of
 * them, which costs twice as much: all that is looked for is ASCII, and no byte of any other character is.
 * @param keys gets those that are under names of ours.
 */
function marked(source: Buffer, keys: string[]): string {
  const start = startOf(source);
  scratch.begin();
  let copied = start;
  let toMend = false;
  const { length } = source;
  for (let at = start; at < length; ) {
    const code = source[at]!;
    if (code === QUOTE) {
      let end = at + 1;
      let escapes = false;
      for (; end < length && source[end] !== QUOTE; end++) {
        if (source[end] !== BACKSLASH) continue;
        escapes = true;
        end++;
        if (source[end] === LOWER_U) toMend = true;
      }
      end++;
      if (escapes && isBeforeColon(source, end)) {
        scratch.copy(source, copied, at);
        scratch.text(withoutEscapes(source.toString('utf8', at, end), keys));
        copied = end;
      }
      at = end;
    } else if ((code >= ZERO && code <= NINE) || code === MINUS) {
      const end = endOfNumber(source, at);
      // What is no JSON number stays as it is, for JSON.parse to refuse; so does a number where a key belongs,
      // which would pass for one as a marked string.
      if (mayLoseDigits(source, at, end) && !isBeforeColon(source, end)) {
        scratch.copy(source, copied, at);
        scratch.copy(MARK_IN_JSON, 0, MARK_IN_JSON.length);
        scratch.copy(source, at, end);
        scratch.byte(QUOTE);
        copied = end;
      }
      at = end;
    } else {
      at++;
    }
  }
  if (copied > start) scratch.copy(source, copied, length);
  const text =
    copied > start ? scratch.bytes.toString('utf8', 0, scratch.at) : source.toString('utf8', start);
  scratch.end();
  return toMend ? mendSource(text) : text;
}

function endOfNumber(source: Buffer, at: number): number {
  let end = at + 1;
  while (end < source.length && isNumberPart(source[end]!)) end++;
  return end;
}

/** Whether it is a JSON number, and one that a double may not hold as it is written. */
function mayLoseDigits(source: Buffer, at: number, end: number): boolean {
  const isWhole = areDigits(source, source[at] === MINUS ? at + 1 : at, end);
  if (isWhole && end - at <= SAFE_LENGTH) return false;
  return (isWhole && source[at]! > ZERO) || NUMBER.test(source.toString('latin1', at, end));
}

function areDigits(source: Buffer, from: number, end: number): boolean {
  for (let at = from; at < end; at++) {
    if (source[at]! < ZERO || source[at]! > NINE) return false;
  }
  return true;
}

/** A key's source that `JSON.parse` reads rightly.
 * @throws SyntaxError where it is no JSON string. */
function withoutEscapes(source: string, keys: string[]): string {
  const key = JSON.parse(mendSource(source)) as string;
  const plain = JSON.stringify(key);
  return plain.includes('\\') ? `"${KEY_MARK}${keys.push(key) - 1}"` : plain;
}

/** Gives keys back that are under names of ours. Not by recursion: nesting has no bound here. */
function restoreKeys(value: unknown, keys: readonly string[]): void {
  const work: unknown[] = [value];
  for (let one = work.pop(); one !== undefined; one = work.pop()) {
    if (typeof one !== 'object' || one === null) continue;
    const entries = Object.entries(one);
    for (const [, member] of entries) work.push(member);
    if (!entries.some(([name]) => name.startsWith(KEY_MARK))) continue;
    // All of them anew, so that they are in the order in which they came.
    const object = one as Record<string, unknown>;
    for (const [name] of entries) delete object[name];
    for (const [name, member] of entries) {
      define(object, name.startsWith(KEY_MARK) ? keys[Number(name.slice(KEY_MARK.length))]! : name, member);
    }
  }
}

function isBeforeColon(source: Buffer, end: number): boolean {
  return source[skipSpace(source, end)] === COLON;
}
