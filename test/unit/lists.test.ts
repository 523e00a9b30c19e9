import { describe, expect, test } from 'vitest';
import { CONTACT, MESSAGE } from '../../src/entities.ts';
import { parseList } from '../../src/upstream/lists.ts';
import { PageError } from '../../src/upstream/page.ts';
import { readListed } from '../../src/verify/listed.ts';

const list = (text: string, array: 'items' | 'messages' = 'messages') => parseList(Buffer.from(text), array);

describe('an answer of a list', () => {
  test.each([
    ['{"items":[{"a":1}]}', 'items', 1, false],
    ['{"items":null}', 'items', 0, false],
    ['{"items":[],"has_more":true}', 'items', 0, false],
    ['{"messages":[{}],"has_more":false}', 'messages', 1, false],
    ['{"messages":[{}],"has_more":true}', 'messages', 1, true],
    // Not told: the next page tells it by being empty.
    ['{"messages":[{}]}', 'messages', 1, true],
    ['{"messages":[]}', 'messages', 0, false],
  ] as const)('%s', (text, array, records, hasMore) => {
    const read = list(text, array);
    expect([read.records.length, read.hasMore]).toEqual([records, hasMore]);
  });

  test.each([
    '{}',
    '[]',
    '<html>',
    '{"messages":{}}',
    '{"messages":[',
    '{"messages":[],"has_more":1}',
    '{"items":[]}',
  ])('%s says nothing', (text) => expect(() => list(text)).toThrow(PageError));
});

describe('listed records', () => {
  test('come once by id, in the newest version; what lacks one of its own is marked', () => {
    const { good, bad } = readListed(
      MESSAGE,
      list(`{"messages":[{"message_id":"a","conversation_id":"c","seq":9007199254740993},
        {"message_id":"a","conversation_id":"c","seq":2},{"message_id":"b","conversation_id":"c"},
        {"message_id":"p","status":"read","seq":3},{"message_id":7}]}`),
    );
    expect(good.map(({ id, row, partial }) => [id, row.seq, partial])).toEqual([
      ['a', '9007199254740993', false],
      ['b', '-1', false],
      ['p', '3', true],
    ]);
    expect(good[2]!.json().toString()).toBe('{"message_id":"p","status":"read","seq":3}');
    expect(bad).toMatchObject([{ kind: 'message', code: 'type_mismatch' }]);
  });

  test('are mended as those of a page are (R10)', () => {
    const { good } = readListed(
      CONTACT,
      list('{"items":[{"person_id":"p","company":"a\\u0000b"}]}', 'items'),
    );
    expect(good[0]!.row).toMatchObject({ person_id: 'p', company: 'a\ufffdb', version: '-1' });
  });
});
