import {
  BACKSLASH,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  OPEN_BRACE,
  OPEN_BRACKET,
  QUOTE,
  skipSpace,
  startOf,
} from './json-bytes.ts';

/**
 * Cuts single values out of JSON bytes, so that a record that is quarantined is kept exactly as it came (R9).
 * The bytes must have passed `JSON.parse`; run only for pages that hold a bad record.
 */

/** The elements of the array at `key` of the object that `json` is, as slices of the same memory; empty where there
 * is none. Where the key comes twice the last one counts, as in `JSON.parse`. */
export function sliceArray(json: Buffer, key: string): Buffer[] {
  let elements: Buffer[] = [];
  // Behind the opening brace.
  let at = skipSpace(json, skipSpace(json, startOf(json)) + 1);
  while (json[at] === QUOTE) {
    const keyEnd = skipString(json, at);
    const name = JSON.parse(json.toString('utf8', at, keyEnd)) as string;
    at = skipSpace(json, keyEnd);
    if (json[at] === COLON) at = skipSpace(json, at + 1);
    const valueEnd = skipValue(json, at);
    if (name === key) elements = json[at] === OPEN_BRACKET ? elementsOf(json, at) : [];
    at = skipSpace(json, valueEnd);
    if (json[at] === COMMA) at = skipSpace(json, at + 1);
  }
  return elements;
}

function elementsOf(json: Buffer, start: number): Buffer[] {
  const elements: Buffer[] = [];
  let at = skipSpace(json, start + 1);
  while (at < json.length && json[at] !== CLOSE_BRACKET) {
    const end = skipValue(json, at);
    elements.push(json.subarray(at, end));
    at = skipSpace(json, end);
    if (json[at] === COMMA) at = skipSpace(json, at + 1);
  }
  return elements;
}

function skipString(json: Buffer, start: number): number {
  for (let at = start + 1; at < json.length; at++) {
    if (json[at] === BACKSLASH) at++;
    else if (json[at] === QUOTE) return at + 1;
  }
  return json.length;
}

function skipValue(json: Buffer, start: number): number {
  let depth = 0;
  let at = start;
  while (at < json.length) {
    const byte = json[at];
    if (byte === QUOTE) {
      at = skipString(json, at);
      if (depth === 0) return at;
      continue;
    }
    if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return at;
      if (--depth === 0) return at + 1;
    } else if (depth === 0 && (byte === COMMA || byte === 32 || byte === 10 || byte === 13 || byte === 9)) {
      return at;
    }
    at++;
  }
  return at;
}
