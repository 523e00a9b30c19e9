import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ArrayName, PageError, parsePage, recordBytes } from '../../src/upstream/page.ts';
import { jsonText } from './json-texts.ts';

const FROM = 5n;

function read(json: string | Buffer) {
  return parsePage(Buffer.from(json), FROM);
}

/** The reason why the text is refused. */
function refusal(json: string | Buffer): string {
  try {
    read(json);
  } catch (error) {
    expect(error).toBeInstanceOf(PageError);
    return (error as PageError).message;
  }
  throw new Error('it was taken');
}

describe('an answer', () => {
  test('is a page', () => {
    const json =
      '{"conversations":[{"a":1}],"contacts":[],"messages":[2,3],"cursor":9,"has_more":true,"new":{}}';
    expect(read(json)).toEqual({
      from: 5n,
      cursor: 9n,
      hasMore: true,
      records: { conversations: [{ a: 1 }], contacts: [], messages: [2, 3] },
      body: Buffer.from(json),
    });
  });

  test.each([
    ['absent', '{"cursor":5,"has_more":false}'],
    ['null', '{"cursor":5,"has_more":false,"conversations":null,"contacts":null,"messages":null}'],
    ['empty', '{"cursor":5,"has_more":false,"conversations":[],"contacts":[],"messages":[]}'],
  ])('may have its arrays %s', (_, json) =>
    expect(read(json).records).toEqual({ conversations: [], contacts: [], messages: [] }),
  );

  test('may begin with a byte order mark and white space', () => {
    const page = read('\ufeff\n {"cursor":6,"messages":[ {"message_id":"m"} ]}');
    expect(page.cursor).toBe(6n);
    expect(recordBytes(page, 'messages').map(String)).toEqual(['{"message_id":"m"}']);
  });

  test('may hold invalid UTF-8, which becomes U+FFFD', () => {
    const body = Buffer.concat([
      Buffer.from('{"cursor":6,"messages":["'),
      Buffer.from([0x61, 0xff, 0x62]),
      Buffer.from('"]}'),
    ]);
    const page = read(body);
    expect(page.records.messages).toEqual(['a\ufffdb']);
    expect(recordBytes(page, 'messages')[0]).toEqual(Buffer.from([0x22, 0x61, 0xff, 0x62, 0x22]));
  });

  test.each([
    [String.raw`{"cursor":6,"messages":["\u0000"]}`, '\ufffd'],
    [String.raw`{"cursor":6,"messages":["\ud800"]}`, '\ufffd'],
    ['{"cursor":6,"messages":["😀"]}', '😀'],
  ])('%s holds text as Postgres takes it: %s', (json, text) =>
    expect(read(json).records.messages).toEqual([text]),
  );
});

describe('the cursor', () => {
  test.each([
    ['0', 0n],
    ['5', 5n],
    ['9007199254740993', 9007199254740993n],
    ['9223372036854775807', 9223372036854775807n],
    ['"9223372036854775807"', 9223372036854775807n],
    ['"0"', 0n],
  ])('%s is taken', (json, cursor) => {
    const page = read(`{"cursor":${json}}`);
    expect(page.cursor).toBe(cursor);
    expect(page.from).toBe(FROM);
  });

  test.each([
    ...['-1', '1.5', '5.0', '5e0', '9223372036854775808', '99999999999999999999', '"-1"', '"1.5"', '""'],
    ...['"abc"', '" 5"', '"0x5"', 'null', 'true', '[5]', '{}', '"9223372036854775808"'],
  ])('%s is refused', (json) => expect(refusal(`{"cursor":${json}}`)).toContain('"cursor"'));

  test('must be there', () => expect(refusal('{"messages":[],"has_more":false}')).toContain('"cursor"'));

  test('counts at the top only, and the last one where it comes twice', () => {
    expect(refusal('{"page":{"cursor":5}}')).toContain('"cursor"');
    expect(refusal('{"__proto__":{"cursor":5}}')).toContain('"cursor"');
    expect(read('{"cursor":6,"cursor":7}').cursor).toBe(7n);
  });
});

describe('has_more', () => {
  test.each([
    ['"cursor":5,"has_more":true', true],
    ['"cursor":6,"has_more":false', false],
    // Absent: whether the cursor moved.
    ['"cursor":5', false],
    ['"cursor":6', true],
    ['"cursor":4', true],
    ['"cursor":"5"', false],
    ['"cursor":6,"has_more":null', true],
    ['"cursor":5,"has_more":null', false],
  ])('of {%s} is %s', (fields, hasMore) => expect(read(`{${fields}}`).hasMore).toBe(hasMore));

  test.each(['"true"', '1', '0', '12345678901234567890', '""', '[]', '{}'])('%s is refused', (json) =>
    expect(refusal(`{"cursor":6,"has_more":${json}}`)).toContain('"has_more"'),
  );
});

describe('an array', () => {
  const names: ArrayName[] = ['conversations', 'contacts', 'messages'];
  const others = ['{}', '{"0":{}}', '""', '"[]"', '0', '12345678901234567890', 'false', 'true'];
  test.each(names.flatMap((name) => others.map((json) => [name, json] as const)))(
    '"%s" is refused as %s',
    (name, json) => expect(refusal(`{"cursor":6,"has_more":false,"${name}":${json}}`)).toContain(`"${name}"`),
  );
});

describe('what is no page', () => {
  test.each([
    ['', 'not complete JSON'],
    [' \n', 'not complete JSON'],
    ['\ufeff', 'not complete JSON'],
    ['<!doctype html><title>502 Bad Gateway</title>', 'HTML'],
    ['\ufeff \n<html></html>', 'HTML'],
    ['upstream connect error', 'not complete JSON'],
    ['{"cursor":5} ok', 'not complete JSON'],
    ['{"cursor":5}{"cursor":6}', 'not complete JSON'],
    ['{"cursor":05}', 'not complete JSON'],
    ['{"cursor":5,}', 'not complete JSON'],
    ['[]', 'no object'],
    ['null', 'no object'],
    ['"page"', 'no object'],
    ['12345678901234567890', 'no object'],
    ['true', 'no object'],
    ['{"error":"connection not ready"}', '"cursor"'],
  ])('%j is refused: %s', (json, reason) => expect(refusal(json)).toContain(reason));

  test('is any page that was cut, wherever it was', () => {
    const arrays = fc.record({ messages: fc.array(jsonText), contacts: fc.array(jsonText) });
    fc.assert(
      fc.property(arrays, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (page, at) => {
        const list = (values: readonly { text: string }[]) => values.map(({ text }) => text).join(',');
        const json = `{"messages":[${list(page.messages)}],"contacts":[${list(page.contacts)}],"cursor":12}`;
        const body = Buffer.from(json);
        expect(read(body).records.messages).toHaveLength(page.messages.length);
        expect(refusal(body.subarray(0, Math.floor(at * body.length)))).toContain('not complete JSON');
      }),
    );
  });

  test('is told of without a word of it', () => {
    const secret = 'Grüße +491701234567';
    const bodies = [`<html>${secret}`, `{"cursor":"${secret}"}`, `{"cursor":1,"has_more":"${secret}"}`];
    for (const body of [...bodies, secret, `["${secret}"]`, `{"cursor":1,"contacts":"${secret}"}`]) {
      expect(refusal(body)).not.toMatch(/Grüße|49170/);
    }
  });
});
