import type { Json } from '../model.ts';

/** What Postgres cannot hold in `text` or `jsonb`, as it shows in JSON source: U+0000 and surrogates. */
const SUSPECT = /\\u(?:0000|[dD][89a-fA-F])/;

/** Whether the JSON source may hold text that has to be mended; false lets a page skip the mending (R10). */
export function mayNeedMending(source: string): boolean {
  return SUSPECT.test(source);
}

/** Text as Postgres can hold it: U+0000 and lone surrogates become U+FFFD (R10). */
export function mendText(text: string): string {
  const wellFormed = text.isWellFormed() ? text : text.toWellFormed();
  return wellFormed.includes('\u0000') ? wellFormed.replaceAll('\u0000', '\ufffd') : wellFormed;
}

/** A copy of parsed JSON in which every string and every key is mended (R10). Iterative, so that no nesting
 * exhausts the stack. */
export function mendJson(value: unknown): unknown {
  const root: { value?: unknown } = {};
  const work: { from: unknown; to: Record<string, unknown> | unknown[]; key: string | number }[] = [
    { from: value, to: root as Record<string, unknown>, key: 'value' },
  ];
  for (let item = work.pop(); item !== undefined; item = work.pop()) {
    const { from, to, key } = item;
    let copy: unknown = from;
    if (typeof from === 'string') {
      copy = mendText(from);
    } else if (Array.isArray(from)) {
      const array: unknown[] = new Array(from.length);
      copy = array;
      for (const [index, element] of from.entries()) work.push({ from: element, to: array, key: index });
    } else if (typeof from === 'object' && from !== null) {
      const object: Record<string, unknown> = {};
      copy = object;
      // Backwards onto the stack, so that of two keys that mending makes equal the last wins, as in JSON.parse.
      const entries = Object.entries(from).map(([name, element]) => ({ element, key: mendText(name) }));
      // Each takes its place now, so that the order of the keys stays.
      for (const { key: name } of entries) define(object, name, null);
      for (const { element, key: name } of entries.reverse())
        work.push({ from: element, to: object, key: name });
    }
    if (Array.isArray(to)) to[key as number] = copy;
    else define(to, key as string, copy);
  }
  return root.value;
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
 * A value of the parsed answer as a value for `jsonb`: marked numbers become raw ones again, by `raw`.
 * Undefined where it is nested deeper than {@link MAX_DEPTH}.
 */
export function toJsonb(
  value: unknown,
  raw: (value: string) => Json | undefined,
  depth = 0,
): Json | undefined {
  if (typeof value === 'string') return raw(value) ?? value;
  if (typeof value !== 'object' || value === null) return value as Json;
  if (depth >= MAX_DEPTH) return undefined;
  if (Array.isArray(value)) {
    const array: Json[] = [];
    for (const element of value) {
      const converted = toJsonb(element, raw, depth + 1);
      if (converted === undefined) return undefined;
      array.push(converted);
    }
    return array;
  }
  const object: Record<string, Json> = {};
  for (const key in value) {
    const converted = toJsonb((value as Record<string, unknown>)[key], raw, depth + 1);
    if (converted === undefined) return undefined;
    define(object, key, converted);
  }
  return object;
}
