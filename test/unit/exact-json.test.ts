import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exactNumber, int64, isNumber, parseExact } from '../../src/lib/exact-json.ts';
import { mendSource, mendText, toJsonb } from '../../src/lib/text.ts';
import { awkwardText, jsonText, numberText } from './json-texts.ts';

function parse(text: string): unknown {
  return parseExact(Buffer.from(text));
}

/** The text that a value would be written into a `jsonb` parameter as. */
function written(value: unknown): string {
  return JSON.stringify(toJsonb(value));
}

function isRefused(parses: (text: string) => unknown, text: string): boolean {
  try {
    parses(text);
    return false;
  } catch (error) {
    expect(error).toBeInstanceOf(SyntaxError);
    return true;
  }
}

describe('numbers', () => {
  test.each([
    '9007199254740993',
    '9223372036854775807',
    '-9223372036854775808',
    '123456789012345678901234567890',
    '0.1000000000000000055511151231257827',
    '1.0',
    '1e400',
    '-1.5E-7',
    '-0.0',
    '0',
    '999999999999999',
    '1000000000000000',
  ])('%s keeps every digit', (text) => {
    expect(written(parse(text))).toBe(text);
    expect(written(parse(`{"a":[${text},{"b": ${text} }]}`))).toBe(`{"a":[${text},{"b":${text}}]}`);
    expect(isNumber(parse(text))).toBe(true);
  });

  test('of any JSON are written again with the digits that they came with', () => {
    fc.assert(
      fc.property(jsonText, ({ text, compact }) => {
        // Mended or not: keys that differ in what Postgres cannot hold alone become one.
        const mended = mendSource(compact);
        expect(written(parse(text))).toBe(mended === compact ? compact : written(parse(mended)));
      }),
      { numRuns: 300 },
    );
  });

  test('that a double may not hold come marked, others as they are', () => {
    expect(parse('999999999999999')).toBe(999999999999999);
    expect(parse('-7')).toBe(-7);
    expect(exactNumber(parse('9007199254740993'))).toBe('9007199254740993');
    expect(exactNumber(parse('1.5'))).toBe('1.5');
    fc.assert(
      fc.property(numberText, (text) => {
        const value = parse(text);
        expect(exactNumber(value) ?? String(value)).toBe(text);
      }),
    );
  });
});

describe('strings', () => {
  test.each([
    '12345678901234567890',
    'a "12345678901234567890" b',
    '\\',
    '\\"',
    '\\\\"1.5',
    '"',
    '',
    '\u0001',
  ])('%j stays a string', (text) => {
    const json = JSON.stringify(text);
    expect(parse(json)).toBe(text);
    expect(isNumber(parse(json))).toBe(false);
  });

  test('are as they came but for what Postgres cannot hold, and so are the numbers beside them', () => {
    const wide = '12345678901234567890';
    fc.assert(
      fc.property(awkwardText, awkwardText, (a, b) => {
        const json = `[${JSON.stringify(a)},${wide},{${JSON.stringify(b)}:${wide}}]`;
        const [first, number, object] = parse(json) as [string, unknown, Record<string, unknown>];
        expect(first).toBe(mendText(a));
        expect(exactNumber(number)).toBe(wide);
        expect(Object.keys(object)).toEqual([mendText(b)]);
        expect(Object.values(object).map(exactNumber)).toEqual([wide]);
      }),
    );
  });

  test('that end in any number of backslashes end where JSON says', () => {
    for (let backslashes = 0; backslashes <= 9; backslashes++) {
      const json = `["${'\\'.repeat(backslashes)}",12345678901234567890,"x"]`;
      expect(isRefused(parse, json)).toBe(backslashes % 2 === 1);
    }
  });
});

describe('keys with escapes', () => {
  /** The keys of an object with `"first"` and one whose source is given; after one that has `other` in its place. */
  const keysAfter = (first: string, other: string, source: string) => {
    parse(`{${JSON.stringify(first)}:1,${JSON.stringify(other)}:2}`);
    return Object.keys(parse(`{${JSON.stringify(first)}:1,"${source}":2}`) as object);
  };

  // Where V8 mistakes keys, it does so by the way that objects were made before: each has a first key of its own.
  test.each([
    ['\\', String.raw`\n`, '\n'],
    ['\\', String.raw`\"`, '"'],
    ['\\', String.raw`\u0062`, 'b'],
    ['k\\', String.raw`k\"`, 'k"'],
    ['k\\u', String.raw`k\u00e9x`, 'kéx'],
    [String.raw`\u006dessa`, String.raw`\u006dessage_id`, 'message_id'],
    [String.raw`\u`, String.raw`\ud83d\ude00`, '😀'],
    ['é\\', String.raw`é\t`, 'é\t'],
    ['漢\\', String.raw`漢\\`, '漢\\'],
  ])('after %j, "%s" is %j', (other, source, key) => {
    const first = `first ${other} ${source}`;
    expect(keysAfter(first, other, source)).toEqual([first, key]);
  });

  test('stand where they came; of those that come twice the last one counts', () => {
    const text = String.raw`{"a":1,"\n":{"\\":[{"\t":2}]},"__proto__":3,"\u0061":4,"\u000a":5,"x":6,"\u005f_proto__":7}`;
    const object = parse(text) as object;
    expect(Object.entries(object)).toEqual([
      ['a', 4],
      ['\n', 5],
      ['__proto__', 7],
      ['x', 6],
    ]);
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype);
    expect(parse(String.raw`[{"\"" : {"\\":[{"\t":2}]}}]`)).toEqual([{ '"': { '\\': [{ '\t': 2 }] } }]);
  });

  test('however deep', () => {
    const deep = String.raw`{"\n":`.repeat(50_000);
    expect(Object.keys(parse(`${deep}1${'}'.repeat(50_000)}`) as object)).toEqual(['\n']);
  });

  test('that are none are refused', () => {
    for (const text of [String.raw`{"\x":1}`, String.raw`{"\u12":1}`, '{"\\\n":1}', String.raw`{"\":1}`])
      expect(isRefused(parse, text)).toBe(true);
  });
});

describe('bytes', () => {
  const bytes = (...parts: (string | number)[]) =>
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.of(part))));

  test('that are no UTF-8 become U+FFFD, and nothing beside them is lost', () => {
    // A first byte of two, three and four, each before what ends the text, and a byte that none begins with.
    for (const one of [0xc3, 0xe6, 0xf0, 0x80, 0xff]) {
      const value = parseExact(
        bytes('{"a', one, '":"b', one, '","n":12345678901234567890,"\\n', one, '":1}'),
      );
      expect(Object.keys(value as object)).toEqual(['a\ufffd', 'n', '\n\ufffd']);
      const { 'a\ufffd': text, n } = value as Record<string, unknown>;
      expect(text).toBe('b\ufffd');
      expect(exactNumber(n)).toBe('12345678901234567890');
    }
  });

  test('of a byte order mark may lead the text, once', () => {
    expect(parse('\ufeff[1]')).toEqual([1]);
    expect(parse('\ufeff"\ufeff"')).toBe('\ufeff');
    expect(exactNumber(parse('\ufeff1.5'))).toBe('1.5');
    expect(() => parse('\ufeff\ufeff[1]')).toThrow(SyntaxError);
    expect(() => parse('[1,\ufeff2]')).toThrow(SyntaxError);
  });

  test('of any number of them are read alike, whatever was read before', () => {
    const long = (length: number) => `["${'x'.repeat(length)}",1.50,${'9'.repeat(length)}]`;
    // Around what is copied at once, and beyond what memory is kept for.
    for (const length of [1, 5 * 1024 ** 2, 47, 48, 49, 2 * 1024 ** 2, 2]) {
      const [text, fraction, number] = parse(long(length)) as [string, unknown, unknown];
      expect(text).toBe('x'.repeat(length));
      expect(exactNumber(fraction)).toBe('1.50');
      expect(exactNumber(number) ?? String(number)).toBe('9'.repeat(length));
    }
  });
});

describe('what is no JSON', () => {
  const malformed = [
    ...['01', '-01', '1.2.3', '1-2', '1e', '1e+', '1.', '.5', '+1', '-', '--1', '0x10', '1_000', 'NaN'],
    ...['12345678901234567890x', '12345678901234567890-', '0012345678901234567890', '12345678901234567890.'],
    ...['1.5"a"', '1.5 2.5', '"a"1.5', '[1.5', '"12345678901234567890', '{"a":12345678901234567890'],
    ...['{12345678901234567890:1}', '{1.5:1}', '{1.5 \n:1}', '{"a":1,2.5\t:3}', '', ' '],
  ];
  test.each(malformed)('%j is refused', (text) => {
    expect(isRefused(JSON.parse, text)).toBe(true);
    expect(isRefused(parse, text)).toBe(true);
    expect(isRefused(parse, `{"a":[${text}}`)).toBe(true);
  });

  test('is the same for it as for JSON.parse, whatever is lost or put in', () => {
    const snippet = fc.constantFrom(
      ...['"', '\\', '{', '}', '[', ']', ':', ',', '-', '.', 'e', '0', '1.5', '12345678901234567890', ' '],
    );
    const position = fc.double({ min: 0, max: 1, noNaN: true });
    const damage = fc.tuple(position, fc.nat({ max: 3 }), fc.oneof(fc.constant(''), snippet));
    fc.assert(
      fc.property(jsonText, fc.array(damage, { minLength: 1, maxLength: 3 }), ({ text }, damages) => {
        let broken = text;
        for (const [at, cut, put] of damages) {
          const start = Math.floor(at * broken.length);
          broken = broken.slice(0, start) + put + broken.slice(start + cut);
        }
        expect(isRefused(parse, broken)).toBe(isRefused(JSON.parse, broken));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('int64', () => {
  test.each([
    ['0', '0'],
    ['-0', '0'],
    ['9007199254740992', '9007199254740992'],
    ['9223372036854775807', '9223372036854775807'],
    ['"9223372036854775807"', '9223372036854775807'],
    ['"0042"', '42'],
    [`"${'0'.repeat(39)}7"`, '7'],
  ])('takes %s', (json, digits) => expect(int64(parse(json))).toBe(digits));

  test.each([
    ...['-1', '-9223372036854775808', '9223372036854775808', '"9223372036854775808"', '1.0', '1.5', '1e3'],
    ...['123456789012345678901234567890', '"-1"', '"+1"', '" 1"', '"1 "', '"1.0"', '"1e3"', '""', '"x"'],
    ...['"٣"', `"${'0'.repeat(41)}"`, 'true', 'null', '[]', '[1]', '{}'],
  ])('refuses %s', (json) => expect(int64(parse(json))).toBeUndefined());

  test.each([1.5, 2 ** 53, Number.NaN])('refuses the number %d', (value) => {
    expect(int64(value)).toBeUndefined();
  });

  test('is exact for every int64 that is not negative', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), (value) => {
        expect(int64(parse(`${value}`))).toBe(`${value}`);
        expect(int64(parse(`"${value}"`))).toBe(`${value}`);
        expect(int64(parse(`${value + 2n ** 63n}`))).toBeUndefined();
      }),
    );
  });
});
