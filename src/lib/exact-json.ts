import { randomBytes } from 'node:crypto';
import type { Json } from '../model.ts';
import { define } from './text.ts';

/**
 * JSON with exact numbers (R4). A JavaScript number holds 53 bits; the upstream's `seq` and `cursor` are
 * int64, and `media` may hold numbers as large. So every number that might lose digits is put into a string
 * before `JSON.parse` sees it, behind a mark that no answer can contain, because it is drawn per process.
 *
 * Rejected: a reviver with `context.source` (four times as slow on a page, it is called for every value), and
 * a JSON library of our own making.
 */
const MARK = `\u0001${randomBytes(8).toString('hex')}:`;
const MARK_IN_JSON = `"\\u0001${MARK.slice(1)}`;

/**
 * Nor does `JSON.parse` see a key with escapes: V8 (from 12.8 on, so Node 24 and 26) takes it for another one that an
 * object of any earlier text had in its place, where that has a backslash in it and is how the key's source begins
 * (nodejs/node#63785). A key that can do without escapes is put so; any other stands under a name of ours meanwhile.
 */
const KEY_MARK = randomBytes(12).toString('hex');

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** Digits that a double always holds exactly. */
const SAFE_LENGTH = 15;

const QUOTE = 34;
const BACKSLASH = 92;
const MINUS = 45;
const COLON = 58;

/** Parses JSON; numbers that a double may not hold come back as marked strings (see {@link exactNumber}).
 * @throws SyntaxError where the text is no JSON. */
export function parseExact(text: string): unknown {
  const keys: string[] = [];
  const value: unknown = JSON.parse(marked(text, keys));
  if (keys.length > 0) restoreKeys(value, keys);
  return value;
}

/** The digits of a marked number, or undefined where `value` is anything else. */
export function exactNumber(value: unknown): string | undefined {
  return typeof value === 'string' && value.charCodeAt(0) === 1 && value.startsWith(MARK)
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

function isNumberPart(code: number): boolean {
  return (
    (code >= 48 && code <= 57) || code === 46 || code === 101 || code === 69 || code === 43 || code === 45
  );
}

/** The text with marked numbers and without escapes in keys. @param keys gets those that are under names of ours. */
function marked(text: string, keys: string[]): string {
  let out = '';
  let copied = 0;
  let backslash = text.indexOf('\\');
  const length = text.length;
  for (let at = 0; at < length; ) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      if (backslash >= 0 && backslash < at) backslash = text.indexOf('\\', at);
      if (backslash >= 0 && backslash < end && isBeforeColon(text, end)) {
        out += text.slice(copied, at) + withoutEscapes(text.slice(at, end), keys);
        copied = end;
      }
      at = end;
    } else if ((code >= 48 && code <= 57) || code === MINUS) {
      let end = at + 1;
      let fraction = false;
      for (let next = text.charCodeAt(end); isNumberPart(next); next = text.charCodeAt(++end)) {
        if (next === 46 || next === 101 || next === 69) fraction = true;
      }
      if (fraction || end - at > SAFE_LENGTH) {
        const digits = text.slice(at, end);
        // What is no JSON number stays as it is, for JSON.parse to refuse; so does a number where a key belongs,
        // which would pass for one as a marked string.
        if (NUMBER.test(digits) && !isBeforeColon(text, end)) {
          out += `${text.slice(copied, at)}${MARK_IN_JSON}${digits}"`;
          copied = end;
        }
      }
      at = end;
    } else {
      at++;
    }
  }
  return copied === 0 ? text : out + text.slice(copied);
}

/** A key's source that `JSON.parse` reads rightly.
 * @throws SyntaxError where it is no JSON string. */
function withoutEscapes(source: string, keys: string[]): string {
  const key = JSON.parse(source) as string;
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

function isBeforeColon(text: string, end: number): boolean {
  let at = end;
  for (let code = text.charCodeAt(at); code === 32 || (code >= 9 && code <= 13); )
    code = text.charCodeAt(++at);
  return text.charCodeAt(at) === COLON;
}

/** The index behind the string that begins at `start`, or the end of the text where it is not closed. */
function endOfString(text: string, start: number): number {
  for (let quote = text.indexOf('"', start + 1); quote >= 0; quote = text.indexOf('"', quote + 1)) {
    let before = quote - 1;
    while (text.charCodeAt(before) === BACKSLASH) before--;
    if ((quote - before) % 2 === 1) return quote + 1;
  }
  return text.length;
}
