import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cutBytes, define, MAX_DEPTH, mendSource, mendText, toJsonb } from '../../src/lib/text.ts';
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

describe('mendSource', () => {
  test.each([
    [String.raw`"a\u0000"`, String.raw`"a\ufffd"`],
    [String.raw`["\ud800",["x\u0000"],1,null,true]`, String.raw`["\ufffd",["x\ufffd"],1,null,true]`],
    [String.raw`{"k\u0000":{"\udc00":"\uDFFF"}}`, String.raw`{"k\ufffd":{"\ufffd":"\ufffd"}}`],
    [String.raw`"\uDC00"`, String.raw`"\ufffd"`],
    [String.raw`{"__proto__":{"a":"\u0000"},"b":1}`, String.raw`{"__proto__":{"a":"\ufffd"},"b":1}`],
    // Both halves, and one between others.
    [String.raw`"\ud83d\ude00\uD83D\uDE00"`, String.raw`"\ud83d\ude00\uD83D\uDE00"`],
    [String.raw`"\ud83d\ud83d\ude00\ude00"`, String.raw`"\ufffd\ud83d\ude00\ufffd"`],
    [String.raw`"\ud83d\n\ude00"`, String.raw`"\ufffd\n\ufffd"`],
    // Escaped backslashes before digits are none of it.
    [String.raw`"\\u0000\\\u0000\\\\ud800"`, String.raw`"\\u0000\\\ufffd\\\\ud800"`],
    [String.raw`"\u0001\ue000\ud7ff\"\/\b"`, String.raw`"\u0001\ue000\ud7ff\"\/\b"`],
    ['"😀"', '"😀"'],
    ['', ''],
  ])('of %s is %s', (source, mended) => expect(mendSource(source)).toBe(mended));

  test('leaves what is no JSON for the parser to refuse', () => {
    for (const source of [
      String.raw`"\u0000`,
      String.raw`"\u00`,
      String.raw`"\ud83d\u`,
      '\\',
      String.raw`{"a":\u0000}`,
    ]) {
      expect(() => JSON.parse(mendSource(source)), source).toThrow(SyntaxError);
    }
  });

  test('of any JSON mends every text and key as mendText does, and nothing else', () => {
    const texts = (json: string) => {
      const all: string[] = [];
      JSON.parse(json, function (this: object, key, value) {
        all.push(key, typeof value === 'string' ? value : '');
        return value;
      });
      return all;
    };
    fc.assert(
      fc.property(jsonText, ({ text }) => {
        const came = texts(text);
        const mended = texts(mendSource(text));
        expect(mended.every(isHeld)).toBe(true);
        // Keys that mending makes equal are one.
        if (mended.length === came.length) expect(mended).toEqual(came.map(mendText));
        if (came.every(isHeld)) expect(JSON.parse(mendSource(text))).toEqual(JSON.parse(text));
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
  const nested = (depth: number) => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);

  test.each([
    [MAX_DEPTH, 0, true],
    [MAX_DEPTH + 1, 0, false],
    [MAX_DEPTH - 1, 1, true],
    [MAX_DEPTH, 1, false],
    [100_000, 0, false],
  ])('takes %i levels from level %i: %s', (levels, from, taken) => {
    expect(toJsonb(nested(levels), from) !== undefined).toBe(taken);
    expect(toJsonb({ deep: nested(levels - 1) }, from) !== undefined).toBe(taken);
    expect(toJsonb([1, nested(levels - 1)], from) !== undefined).toBe(taken);
  });

  test('keeps any JSON as it is otherwise', () => {
    fc.assert(
      fc.property(jsonText, ({ text }) => {
        const value = JSON.parse(text);
        expect(JSON.stringify(toJsonb(value))).toBe(JSON.stringify(value));
      }),
    );
  });
});
