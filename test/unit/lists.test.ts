import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { CONTACT, MESSAGE } from '../../src/entities.ts';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';
import { Lists, parseList } from '../../src/upstream/lists.ts';
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

test('a list is asked for by its ids, whatever is in them, and what is no list is told without them', async () => {
  const asked: unknown[] = [];
  const server = createServer(({ url }, answer) => {
    asked.push(url);
    answer.end('<html>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const upstream = new UpstreamClient({ baseUrl, requestTimeout: 30_000, maxSockets: 1, userAgent: 'test' });
  const { signal } = new AbortController();
  const request = { key: fixedKey('key'), connectionId: 'c', admits: () => true, signal };
  try {
    await expect(new Lists(upstream).messages(request, 'a/b?@g.us', '1&2', 7)).rejects.toMatchObject({
      kind: 'protocol',
      message: '/v1/whatsapp/conversations/…/messages: the answer is HTML, not JSON',
    });
    await expect(new Lists(upstream).messages(request, 'a', undefined, 7)).rejects.toThrow('HTML');
  } finally {
    await upstream.close();
    server.close();
  }
  const path = '/v1/whatsapp/conversations/a%2Fb%3F%40g.us/messages';
  const newest = '/v1/whatsapp/conversations/a/messages?limit=7';
  expect(asked).toEqual([`${path}?limit=7&before_message_id=1%262`, newest]);
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
