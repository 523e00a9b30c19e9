import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cutBytes,
  define,
  MAX_DEPTH,
  mayNeedMending,
  mendJson,
  mendText,
  toJsonb,
} from '../../src/lib/text.ts';
import type { Json } from '../../src/model.ts';
import { awkwardText, jsonText } from './json-texts.ts';

const NUL = '\u0000';
const HIGH = '\ud83d';
const LOW = '\ude00';
const R = '\ufffd';

/** Whether Postgres can hold the text. */
function isHeld(text: string): boolean {
  return text.isWellFormed() && !text.includes(NUL);
}

describe('mendText', () => {
  test.each([
    ['', ''],
    ['plain, ünïcödé, 漢字', 'plain, ünïcödé, 漢字'],
    [`${HIGH}${LOW}`, '😀'],
    [`a${NUL}b${NUL}`, `a${R}b${R}`],
    [`a${HIGH}`, `a${R}`],
    [`${LOW}a`, `${R}a`],
    [`${LOW}${HIGH}`, `${R}${R}`],
    [`${HIGH}${HIGH}${LOW}`, `${R}😀`],
    [`${NUL}${LOW}${R}`, `${R}${R}${R}`],
    ['\u0001\u001f\u007f\uffff', '\u0001\u001f\u007f\uffff'],
  ])('%j becomes %j', (text, mended) => expect(mendText(text)).toBe(mended));

  test('gives text that Postgres holds, of the same length, and leaves good text alone', () => {
    fc.assert(
      fc.property(awkwardText, (text) => {
        const mended = mendText(text);
        expect(isHeld(mended)).toBe(true);
        expect(mended).toHaveLength(text.length);
        if (isHeld(text)) expect(mended).toBe(text);
      }),
    );
  });
});

describe('mayNeedMending', () => {
  test.each([
    [String.raw`"\u0000"`, true],
    [String.raw`"\ud83d"`, true],
    [String.raw`"\uDE00"`, true],
    [String.raw`"\uDbFf"`, true],
    [String.raw`"\u0001\ue000\ud7ff"`, false],
    ['"😀"', false],
    // Harmless: it is mended for nothing.
    [String.raw`"\\u0000"`, true],
  ])('of %s is %s', (source, may) => expect(mayNeedMending(source)).toBe(may));

  test('is never false where something has to be mended', () => {
    fc.assert(
      fc.property(jsonText, ({ text }) => {
        if (mayNeedMending(text)) return;
        const value = JSON.parse(text);
        expect(JSON.stringify(mendJson(value))).toBe(JSON.stringify(value));
      }),
    );
  });
});

describe('mendJson', () => {
  const mended = (json: string) => JSON.stringify(mendJson(JSON.parse(json)));

  test.each([
    [String.raw`"a\u0000"`, `"a${R}"`],
    [String.raw`["\ud800",["x\u0000"],1,null,true]`, `["${R}",["x${R}"],1,null,true]`],
    [String.raw`{"k\u0000":{"\udc00":"\udc00"}}`, `{"k${R}":{"${R}":"${R}"}}`],
    [String.raw`{"__proto__":{"a":"\u0000"},"b":1}`, `{"__proto__":{"a":"${R}"},"b":1}`],
    [String.raw`{"constructor":"\u0000","toString":[]}`, `{"constructor":"${R}","toString":[]}`],
    ['{"z":1,"a":{"y":1,"b":2},"m":[{"q":1,"c":2}]}', '{"z":1,"a":{"y":1,"b":2},"m":[{"q":1,"c":2}]}'],
    ['[]', '[]'],
    ['{}', '{}'],
    ['null', 'null'],
  ])('of %s is %s', (json, expected) => expect(mended(json)).toBe(expected));

  test('sets no prototype', () => {
    const copy = mendJson(JSON.parse('{"__proto__":{"polluted":true}}')) as Record<string, unknown>;
    expect(Object.getPrototypeOf(copy)).toBe(Object.prototype);
    expect(copy.polluted).toBeUndefined();
    expect(Object.keys(copy)).toEqual(['__proto__']);
  });

  test('copies, and does not touch what it is given', () => {
    const given = { a: [`x${NUL}`] };
    expect(mendJson(given)).toEqual({ a: [`x${R}`] });
    expect(given).toEqual({ a: [`x${NUL}`] });
  });

  test('goes 100,000 deep without a stack', () => {
    const depth = 100_000;
    const arrays = `${'['.repeat(depth)}"\\u0000"${']'.repeat(depth)}`;
    const objects = `${'{"\\u0000":'.repeat(depth)}"\\u0000"${'}'.repeat(depth)}`;
    for (const json of [arrays, objects]) {
      let levels = 0;
      let value = mendJson(JSON.parse(json));
      for (; typeof value === 'object'; levels++)
        value = (value as Record<string, unknown>)[Array.isArray(value) ? 0 : R];
      expect({ levels, value }).toEqual({ levels: depth, value: R });
    }
  });

  test('of any JSON leaves only what Postgres holds, keys in their order', () => {
    fc.assert(
      fc.property(jsonText, ({ compact }) => {
        const value = JSON.parse(compact);
        const strings: string[] = [];
        JSON.stringify(mendJson(value), (key, one) => {
          strings.push(key, typeof one === 'string' ? one : '');
          return one;
        });
        expect(strings.every(isHeld)).toBe(true);
        if (isHeld(strings.join('')) && !mayNeedMending(compact)) {
          expect(JSON.stringify(mendJson(value))).toBe(JSON.stringify(value));
        }
      }),
    );
  });
});

test('define takes a key of any name as the object’s own', () => {
  for (const key of ['__proto__', 'constructor', '', 'a']) {
    const target: Record<string, unknown> = {};
    define(target, key, 1);
    define(target, key, 2);
    expect(Object.entries(target)).toEqual([[key, 2]]);
  }
});

describe('cutBytes', () => {
  test.each([
    ['abc', 3, 'abc'],
    ['abcd', 3, 'abc'],
    ['aé', 2, 'a'],
    ['aé', 3, 'aé'],
    ['a漢', 2, 'a'],
    ['a漢', 3, 'a'],
    ['😀', 3, ''],
    ['😀😀', 7, '😀'],
    ['abc', 0, ''],
    ['', 0, ''],
  ])('of %j to %i is %j', (text, bytes, cut) => expect(cutBytes(text, bytes)).toBe(cut));

  test('is the longest beginning in whole characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 30 }), fc.nat({ max: 40 }), (text, bytes) => {
        const cut = cutBytes(text, bytes);
        expect(text.startsWith(cut)).toBe(true);
        expect(cut.isWellFormed()).toBe(true);
        expect(Buffer.byteLength(cut)).toBeLessThanOrEqual(bytes);
        const next = String.fromCodePoint(
          ...[text.codePointAt(cut.length)].filter((one) => one !== undefined),
        );
        if (next !== '') expect(Buffer.byteLength(cut + next)).toBeGreaterThan(bytes);
      }),
    );
  });
});

describe('toJsonb', () => {
  const plain = (): undefined => undefined;
  const nested = (depth: number) => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);

  test.each([
    [MAX_DEPTH, 0, true],
    [MAX_DEPTH + 1, 0, false],
    [MAX_DEPTH - 1, 1, true],
    [MAX_DEPTH, 1, false],
    [100_000, 0, false],
  ])('takes %i levels from level %i: %s', (levels, from, taken) => {
    expect(toJsonb(nested(levels), plain, from) !== undefined).toBe(taken);
    expect(toJsonb({ deep: nested(levels - 1) }, plain, from) !== undefined).toBe(taken);
    expect(toJsonb([1, nested(levels - 1)], plain, from) !== undefined).toBe(taken);
  });

  test('replaces the strings that `raw` knows, not the keys', () => {
    const raw = (text: string): Json | undefined => (text === 'x' ? 1 : undefined);
    expect(toJsonb({ x: ['x', 'y', { x: 'x' }, null, false, 2] }, raw)).toEqual({
      x: [1, 'y', { x: 1 }, null, false, 2],
    });
  });

  test('keeps any JSON as it is otherwise', () => {
    fc.assert(
      fc.property(jsonText, ({ text }) => {
        const value = JSON.parse(text);
        expect(JSON.stringify(toJsonb(value, plain))).toBe(JSON.stringify(value));
      }),
    );
  });
});
