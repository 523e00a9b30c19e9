import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { sliceArray } from '../../src/lib/json-slice.ts';
import { jsonText } from './json-texts.ts';

function slices(json: string | Buffer, key = 'a'): string[] {
  return sliceArray(Buffer.from(json), key).map((slice) => slice.toString('latin1'));
}

describe('the elements of an array', () => {
  test.each<[what: string, json: string, elements: string[]]>([
    ['of numbers', '{"a":[1,2.50,-3e7]}', ['1', '2.50', '-3e7']],
    ['of every type', '{"a":[null,true,false,"x",{},[]]}', ['null', 'true', 'false', '"x"', '{}', '[]']],
    ['with white space inside', '{"a":[ {"b" :\n1 } ,\t[ 1 , 2 ]\r\n]}', ['{"b" :\n1 }', '[ 1 , 2 ]']],
    ['with white space about', ' \n{ "a" \t: \r[ 1 , 2 ] } \n', ['1', '2']],
    ['with brackets in strings', '{"a":["]","}",{"b":"]}"},["{["]]}', ['"]"', '"}"', '{"b":"]}"}', '["{["]']],
    ['with commas in strings', '{"a":["1,2",{"b":","}]}', ['"1,2"', '{"b":","}']],
    [
      'with escapes',
      '{"a":["\\"","\\\\","\\\\\\"]","\\u0022"]}',
      ['"\\""', '"\\\\"', '"\\\\\\"]"', '"\\u0022"'],
    ],
    ['nested', '{"a":[[[[]]],{"a":[9]}]}', ['[[[]]]', '{"a":[9]}']],
    ['that is empty', '{"a":[]}', []],
    ['that is empty but for space', '{"a":[ \n]}', []],
  ])('%s come byte for byte', (_, json, elements) => {
    JSON.parse(json);
    expect(slices(json)).toEqual(elements);
  });

  test.each<[what: string, json: string, elements: string[]]>([
    ['the key is absent', '{"b":[1]}', []],
    ['the object is empty', '{}', []],
    ['the text is an array', '[["a",[1]]]', []],
    ['the text is a string', '"a"', []],
    ['the value is null', '{"a":null}', []],
    ['the value is an object', '{"a":{"a":[1]}}', []],
    ['the key is deeper', '{"b":{"a":[1]},"c":["a",[2]]}', []],
    ['other values come first', '{"x":"\\"a\\":[1]","y":[[1],"a"],"z":{"a":[2]},"a":[3]}', ['3']],
    ['the key comes twice', '{"a":[1],"b":0,"a":[2]}', ['2']],
    ['the key comes again as null', '{"a":[1],"a":null}', []],
    ['the key is written with escapes', '{"\\u0061":[1]}', ['1']],
    ['another key only looks like it', '{"\\\\u0061":[1],"a ":[2],"A":[3]}', []],
    ['a byte order mark leads', '\ufeff {"a":[1]}', ['1']],
  ])('are those that JSON.parse gives where %s', (_, json, elements) => {
    const parsed = JSON.parse(json.replace('\ufeff', '')) as { a?: unknown };
    const expected = Array.isArray(parsed.a) ? parsed.a : [];
    expect(slices(json)).toEqual(elements);
    expect(elements.map((one) => JSON.parse(one))).toEqual(expected);
  });

  test('keep bytes that are no UTF-8, of which none hides a quote', () => {
    const broken = [0x80, 0xc3, 0xe2, 0x82, 0xf0, 0x9f, 0x98, 0xed, 0xa0, 0x80, 0xff];
    const element = Buffer.from([0x22, ...broken, 0x5c, 0x22, 0xf0, 0x22]);
    const json = Buffer.concat([
      Buffer.from('{"x":"'),
      Buffer.from([0xe2]),
      Buffer.from('","a":['),
      element,
      Buffer.from(' , 7]}'),
    ]);
    const found = sliceArray(json, 'a');
    expect(found.map((slice) => slice.toString('hex'))).toEqual([element.toString('hex'), '37']);
    expect(JSON.parse(json.toString('utf8')).a[0]).toBe(JSON.parse(found[0]!.toString('utf8')));
  });

  test('are slices of the same memory', () => {
    const json = Buffer.from('{"a":[{"b":1}]}');
    expect(sliceArray(json, 'a')[0]!.buffer).toBe(json.buffer);
  });

  test('come at any depth without a stack', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(slices(`{"b":${deep},"a":[${deep},1]}`)).toEqual([deep, '1']);
  });

  test('are as they were written, in any JSON', () => {
    const array = fc.array(jsonText, { maxLength: 5 });
    fc.assert(
      fc.property(
        jsonText,
        array,
        jsonText,
        fc.constantFrom('', ' ', '\n '),
        (before, elements, after, gap) => {
          const texts = elements.map(({ text }) => text);
          const list = `[${gap}${texts.join(`${gap},${gap}`)}${gap}]`;
          const json = `{"b":${before.text},${gap}"key"${gap}:${gap}${list},"c":${after.text}}`;
          const found = sliceArray(Buffer.from(json), 'key');
          expect(found.map(String)).toEqual(texts);
          expect(found.map((slice) => JSON.parse(slice.toString()))).toEqual(JSON.parse(json).key);
        },
      ),
    );
  });
});
