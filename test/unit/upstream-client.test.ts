import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { UNNAMED_CONNECTION } from '../../src/model.ts';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';

const { signal } = new AbortController();
const key = fixedKey('secret');
let server: Server;
let answer: RequestListener;
/** What was asked, in order. */
let asked: IncomingMessage[];
const clients: UpstreamClient[] = [];

beforeEach(async () => {
  asked = [];
  server = createServer((request, response) => {
    asked.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
  server.close();
});

function client(path = '', requestTimeout = 30_000, maxSockets = 4): UpstreamClient {
  const baseUrl = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`);
  clients.push(new UpstreamClient({ baseUrl, requestTimeout, maxSockets, userAgent: 'wa-replica/test' }));
  return clients.at(-1)!;
}

const says =
  (body: string, status = 200, headers: Record<string, string> = {}): RequestListener =>
  (_, response) => {
    response.writeHead(status, headers).end(body);
  };

describe('a request', () => {
  test('says who asks, for which connection, and in what form; nothing else', async () => {
    answer = says('{}');
    await client().pairingStatus(key, 'conn_a', signal);
    const { method, url, headers } = asked[0]!;
    const { host, connection, ...own } = headers;
    expect([method, url]).toEqual(['GET', '/v1/whatsapp/status']);
    expect(own).toEqual({
      authorization: 'Bearer secret',
      accept: 'application/json',
      'accept-encoding': 'identity',
      'user-agent': 'wa-replica/test',
      'x-whatsapp-use-connection-id': 'conn_a',
    });
  });

  test('names no connection where that has no name, or none is meant', async () => {
    answer = says('{}');
    await client().pairingStatus(key, UNNAMED_CONNECTION, signal);
    await client().me(key, signal);
    for (const { headers } of asked) expect(headers).not.toHaveProperty('x-whatsapp-use-connection-id');
  });

  test.each([
    ['', '/v1/me'],
    ['/', '/v1/me'],
    ['//', '/v1/me'],
    ['/behind/a/proxy', '/behind/a/proxy/v1/me'],
    ['/behind/a/proxy/', '/behind/a/proxy/v1/me'],
  ])('goes below the path of the base URL (%s)', async (path, url) => {
    answer = says('{}');
    await client(path).me(key, signal);
    expect(asked[0]!.url).toBe(url);
  });

  test('with a body sends JSON, and may be answered by 201, or by 204 and nothing', async () => {
    let sent = '';
    answer = async (request, response) => {
      sent = await text(request);
      response.writeHead(201).end('{"id":"1"}');
    };
    expect(await client().call(key, 'POST', '/v1/things', signal, { a: 1 })).toEqual({ id: '1' });
    expect(JSON.parse(sent)).toEqual({ a: 1 });
    expect(asked[0]!.headers['content-type']).toBe('application/json');
    answer = says('', 204);
    expect(await client().call(key, 'DELETE', '/v1/things/1', signal)).toBeUndefined();
    expect(asked[1]!.headers).not.toHaveProperty('content-type');
    answer = says('');
    expect(await client().call(key, 'POST', '/v1/things/1/test', signal)).toBeUndefined();
    answer = says('', 202);
    await expect(client().call(key, 'DELETE', '/v1/things/1', signal)).rejects.toMatchObject({
      ...{ kind: 'protocol', where: 'DELETE /v1/things/1' },
    });
  });

  test.each([201, 204])('of a page is not answered by %i', async (status) => {
    answer = says('{}', status);
    const page = client().fetchPage(key, 'conn_a', 7n, 5, () => true, signal);
    await expect(page).rejects.toMatchObject({ kind: 'protocol', where: 'GET /v1/whatsapp/sync' });
    expect(asked[0]!.url).toBe('/v1/whatsapp/sync?cursor=7&limit=5');
  });

  test('of an attachment is not answered by 201, which keeps no socket', async () => {
    const one = client('', 30_000, 1);
    answer = says('a file'.repeat(100_000), 201);
    await expect(one.openMedia(key, 'conn_a', 'm', signal)).rejects.toMatchObject({
      ...{ kind: 'protocol', where: 'GET /v1/whatsapp/media', code: 'HTTP 201' },
    });
    answer = says('{}');
    expect(await one.me(key, signal)).toEqual({});
  });
});

describe('what goes wrong is told by kind and place', () => {
  test.each([
    [503, { 'retry-after': '7' }, { kind: 'not_ready', code: 'HTTP 503', status: 503, retryAfter: 7_000 }],
    [
      503,
      { date: 'Sun, 06 Nov 1994 08:49:37 GMT', 'retry-after': 'Sun, 06 Nov 1994 08:49:44 GMT' },
      { kind: 'not_ready', retryAfter: 7_000 },
    ],
    [429, {}, { kind: 'rate_limited', code: 'HTTP 429', status: 429, retryAfter: undefined }],
    [302, { location: '/elsewhere' }, { kind: 'protocol', code: 'HTTP 302', status: 302 }],
  ])('a status, %i', async (status, headers, error) => {
    answer = says('+49 151 23456789', status, headers as Record<string, string>);
    const refused = client().me(key, signal);
    await expect(refused).rejects.toMatchObject({ ...error, where: 'GET /v1/me' });
    await expect(refused).rejects.not.toThrow('151');
    expect(asked).toHaveLength(1);
  });

  test('a status whose text never ends', async () => {
    answer = (_, response) => void response.writeHead(500).write('and');
    await expect(client().me(key, signal)).rejects.toMatchObject({ kind: 'upstream', status: 500 });
  });

  test.each<[string, RequestListener]>([
    ['answer at all', () => {}],
    ['end of the answer', (_, response) => void response.writeHead(200).write('{')],
  ])('no %s in the time that a request may take', async (_, hangs) => {
    answer = hangs;
    await expect(client('', 100).me(key, signal)).rejects.toMatchObject({ kind: 'timeout' });
  });

  test.each<[string, RequestListener]>([
    ['before the answer', ({ socket }) => void socket.destroy()],
    [
      'in the middle of it',
      ({ socket }, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('{', () => socket.destroy());
      },
    ],
  ])('a connection that ends %s', async (_, cuts) => {
    answer = cuts;
    await expect(client().me(key, signal)).rejects.toMatchObject({ kind: 'network', where: 'GET /v1/me' });
  });

  test('an end that was asked for is what was asked', async () => {
    const stopping = new AbortController();
    answer = () => stopping.abort(new Error('enough'));
    await expect(client().me(key, stopping.signal)).rejects.toThrow('enough');
  });

  test('what is not JSON', async () => {
    answer = says('<html>');
    await expect(client().me(key, signal)).rejects.toMatchObject({ kind: 'protocol', code: 'not JSON' });
    await expect(client().call(key, 'GET', '/v1/things', signal)).rejects.toMatchObject({ kind: 'protocol' });
  });

  test('what was compressed unasked, of pages and attachments alike', async () => {
    answer = (_, response) =>
      void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('{"cursor":7}'));
    const one = client();
    const compressed = { kind: 'protocol', code: 'compressed', hint: expect.stringContaining('compress') };
    const page = one.fetchPage(key, 'conn_a', 7n, 5, () => true, signal);
    await expect(page).rejects.toMatchObject({ ...compressed, where: 'GET /v1/whatsapp/sync' });
    await expect(one.openMedia(key, 'conn_a', 'a', signal)).rejects.toMatchObject(compressed);
    expect(await one.probe(key, 'conn_a', '/v1/me', signal)).toMatchObject({ status: 200, body: undefined });
    // A status says what it says all the same.
    answer = says('', 503, { 'content-encoding': 'br' });
    await expect(one.me(key, signal)).rejects.toMatchObject({ kind: 'not_ready' });
    answer = says('{}', 200, { 'content-encoding': 'Identity' });
    expect(await one.me(key, signal)).toEqual({});
  });

  test('an answer that is larger than one that is no page may be', async () => {
    answer = says(`"${'x'.repeat(16 * 1024 ** 2)}"`);
    await expect(client().me(key, signal)).rejects.toMatchObject({ kind: 'oversize' });
  });
});

test.each<[string, object, RequestListener]>([
  ['refused', { kind: 'bad_request' }, says('x'.repeat(1_000_000), 400)],
  [
    'too large, and without an end',
    { kind: 'oversize' },
    (_, response) => {
      const more = () => !response.destroyed && response.write('x'.repeat(1_000_000), more);
      more();
    },
  ],
])('a request that is %s gives its socket back', async (_, error, listener) => {
  const one = client('', 30_000, 1);
  answer = listener;
  await expect(one.me(key, signal)).rejects.toMatchObject(error);
  const large = { y: 'y'.repeat(1_000_000) };
  answer = says(JSON.stringify(large));
  expect(await one.me(key, signal)).toEqual(large);
});

test.each([
  ['{"paired":true,"connected":false,"jid":"1@lid"}', true, false, '1@lid'],
  ['{"paired":"true","connected":1,"jid":7}', null, null, null],
  ['{"jid":""}', null, null, null],
  ['null', null, null, null],
])('of %s as much is taken as is understood', async (body, paired, connected, jid) => {
  answer = says(body);
  expect(await client().pairingStatus(key, 'conn_a', signal)).toEqual({ paired, connected, jid });
});

test.each(['null', '[]', '"x"', '7'])('%s is no answer of GET /v1/me', async (body) => {
  answer = says(body);
  await expect(client().me(key, signal)).rejects.toMatchObject({ kind: 'protocol' });
});

test('a 404 of what every key has is not of the API', async () => {
  answer = says('', 404);
  const other = { kind: 'not_found', hint: expect.stringContaining('WHATSAPP_USE_BASE_URL') };
  await expect(client().me(key, signal)).rejects.toMatchObject(other);
  await expect(client().call(key, 'GET', '/v1/webhooks/endpoints', signal)).rejects.toMatchObject(other);
  await expect(client().pairingStatus(key, 'conn_a', signal)).rejects.toMatchObject({
    hint: expect.stringContaining('WHATSAPP_USE_CONNECTION_IDS'),
  });
});

test('a probe gives whatever is answered', async () => {
  const date = 'Sun, 06 Nov 1994 08:49:37 GMT';
  answer = says('{"a":1}', 200, { date });
  const probe = (path: string) => client().probe(key, 'conn_a', path, signal);
  expect(await probe('/v1/me')).toEqual({ status: 200, date: new Date(date), body: { a: 1 } });
  answer = says('{"a":1}', 409, { date: 'today' });
  expect(await probe('/v1/me')).toEqual({ status: 409, date: undefined, body: undefined });
});

test('an attachment comes as it is, whatever its id; its length is taken where it is one', async () => {
  answer = says('bytes', 200, { 'content-type': 'image/png', 'content-length': '5' });
  const open = (id: string) => client().openMedia(key, 'conn_a', id, signal);
  const file = await open('a/b?c');
  expect([file.contentType, file.contentLength, await text(file.body)]).toEqual(['image/png', 5, 'bytes']);
  expect([asked[0]!.url, asked[0]!.headers.accept]).toEqual(['/v1/whatsapp/media/a%2Fb%3Fc', '*/*']);
  answer = (_, response) => void response.writeHead(200).write('by', () => response.end('tes'));
  const other = await open('d');
  expect([other.contentType, other.contentLength, await text(other.body)]).toEqual([
    undefined,
    undefined,
    'bytes',
  ]);
  answer = says('', 404);
  await expect(open('a/b?c')).rejects.toMatchObject({ kind: 'not_found', where: 'GET /v1/whatsapp/media' });
});

test('an attachment may take longer than a request, once it has begun', async () => {
  answer = (_, response) => {
    response.writeHead(200).write('by');
    setTimeout(() => response.end('tes'), 400);
  };
  const { body } = await client('', 200).openMedia(key, 'conn_a', 'a', signal);
  expect(await text(body)).toBe('bytes');
});
