import type { Json } from '../model.ts';
import { exactNumber, rawNumber } from './exact-json.ts';

/** What Postgres cannot hold in `text` or `jsonb`, as it shows in JSON source: U+0000 and surrogates. */
const SUSPECT = /\\u(?:0000|[dD][89a-fA-F])/;

/** Every escape of JSON source, taken in its turn so that `\\\\u0000` is none of U+0000; a surrogate with its other half. */
const ESCAPE =
  /\\(?:u(?:0000|[dD][89abAB][\da-fA-F]{2}(\\u[dD][c-fC-F][\da-fA-F]{2})?|[dD][c-fC-F][\da-fA-F]{2})|[\s\S])/g;

/**
 * JSON source without what Postgres cannot hold (R10): in texts and keys, U+0000 and lone surrogates become U+FFFD.
 * @param source decoded from UTF-8, so that a surrogate in it is an escape or a half of a pair.
 */
export function mendSource(source: string): string {
  if (!SUSPECT.test(source)) return source;
  return source.replace(ESCAPE, (one: string, otherHalf?: string) =>
    one.length > 2 && otherHalf === undefined ? '\\ufffd' : one,
  );
}

/** Text as Postgres can hold it: U+0000 and lone surrogates become U+FFFD (R10). */
export function mendText(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed();
  return wellFormed.includes('\u0000') ? wellFormed.replaceAll('\u0000', '\ufffd') : wellFormed;
}

/** Assigns a key of foreign origin; a plain assignment to `__proto__` would set the prototype. */
export function define(target: Record<string, unknown>, key: string, value: unknown): void {
  if (key === '__proto__') {
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  } else {
    target[key] = value;
  }
}

/** The text cut to at most `bytes` bytes of UTF-8, never inside a character. */
export function cutBytes(text: string, bytes: number): string {
  const encoded = Buffer.from(text);
  if (encoded.length <= bytes) return text;
  let end = bytes;
  while (end > 0 && (encoded[end]! & 0xc0) === 0x80) end--;
  return encoded.toString('utf8', 0, end);
}

/** Nesting of jsonb that is accepted; Postgres itself gives up at some thousands (SQLSTATE 54001). */
export const MAX_DEPTH = 256;

/**
 * A value of the parsed answer as a value for `jsonb`: marked numbers (`parseExact`) become raw ones again.
 * Undefined where it is nested deeper than {@link MAX_DEPTH}.
 * @param depth of the value itself.
 */
export function toJsonb(value: unknown, depth = 0): Json | undefined {
  if (typeof value === 'string') {
    const digits = exactNumber(value);
    return digits === undefined ? value : rawNumber(digits);
  }
  if (typeof value !== 'object' || value === null) return value as Json;
  if (depth >= MAX_DEPTH) return undefined;
  if (Array.isArray(value)) {
    const array: Json[] = [];
    for (const element of value) {
      const converted = toJsonb(element, depth + 1);
      if (converted === undefined) return undefined;
      array.push(converted);
    }
    return array;
  }
  const object: Record<string, Json> = {};
  for (const key in value) {
    const converted = toJsonb((value as Record<string, unknown>)[key], depth + 1);
    if (converted === undefined) return undefined;
    define(object, key, converted);
  }
  return object;
}
