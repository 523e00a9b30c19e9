import { request } from 'node:http';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HttpServer, serve } from '../../src/ops/http/server.ts';
import { webhookRoute } from '../../src/ops/http/webhook.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { signature } from '../../src/simulator/webhooks.ts';
import { waitFor } from '../support/wait.ts';

const SECRET = 'whsec_test';
const PATH = '/webhooks/whatsapp-use';

let server: HttpServer;
let events: (string | undefined)[];
let counted: string[];
let failing: Error | undefined;
let logged: string;

beforeEach(async () => {
  events = [];
  counted = [];
  failing = undefined;
  logged = '';
  const stream = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  const log = createLogger({ level: 'info', format: 'json', stream });
  const onEvent = async (id: string | undefined) => {
    if (failing) throw failing;
    events.push(id);
  };
  server = await serve(
    // While one is rotated there are two.
    [
      webhookRoute({
        secrets: ['whsec_next', SECRET],
        onEvent,
        count: (outcome) => counted.push(outcome),
        log,
      }),
    ],
    { host: '127.0.0.1', port: 0 },
    log,
  );
});
afterEach(() => server.close());

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, unknown>;
}

/** Sends a body as a webhook's sender would; signed unless told otherwise. */
function send(
  body: string | Buffer,
  { path = PATH, method = 'POST', headers = {} as Record<string, string> } = {},
): Promise<Answer> {
  const signed = {
    'x-whatsapp-use-signature': signature(SECRET, Math.floor(Date.now() / 1000), body.toString()),
  };
  return new Promise((resolve, reject) => {
    const asked = request(
      { port: server.port, path, method, headers: { ...signed, ...headers } },
      async (answer) => {
        const { statusCode, headers } = answer;
        resolve({ status: statusCode!, body: await text(answer), headers });
      },
    );
    asked.on('error', reject);
    asked.end(body);
  });
}

const event = (id: unknown) =>
  JSON.stringify({ id: 'evt_1', type: 'whatsapp.message.received', connection_id: id });

describe('a signed event', () => {
  test('names its connection, and is 200', async () => {
    expect(await send(event('conn_a'))).toMatchObject({ status: 200, body: 'ok\n' });
    expect(events).toEqual(['conn_a']);
    expect(counted).toEqual(['accepted']);
  });

  test.each([
    event(7),
    event(null),
    event('conn\u0000a'),
    event('x'.repeat(1_025)),
    '{}',
    'null',
    '[]',
    '7',
    'not JSON',
    '',
  ])('that names none is 200 too: %s', async (body) => {
    expect((await send(body)).status).toBe(200);
    expect(events).toEqual([undefined]);
  });

  test('is 503 where nobody could be told: the sender shall try again', async () => {
    failing = Object.assign(new Error('no'), { code: '57P01' });
    expect((await send(event('conn_a'))).status).toBe(503);
    failing = undefined;
    expect((await send(event('conn_a'))).status).toBe(200);
    expect(counted).toEqual(['failed', 'accepted']);
    expect(logged).toBe('');
  });

  test('is 500 where this program is at fault, and told', async () => {
    failing = new TypeError('a fault of this program');
    expect((await send(event('conn_a'))).status).toBe(500);
    expect(counted).toEqual(['failed']);
    expect(logged).toMatch(/"kind":"internal","error":"TypeError","at":\[.*"HTTP request failed"/);
  });

  test('may have a query', async () => {
    expect((await send(event('conn_a'), { path: `${PATH}?from=here` })).status).toBe(200);
  });
});

describe('anything else is refused, wakes nobody, and is counted', () => {
  test.each<[string, Record<string, string>]>([
    [
      'of another secret',
      { 'x-whatsapp-use-signature': signature('other', Math.floor(Date.now() / 1000), event('a')) },
    ],
    ['that is old', { 'x-whatsapp-use-signature': signature(SECRET, 1_000_000_000, event('a')) }],
    ['that is empty', { 'x-whatsapp-use-signature': '' }],
  ])('a signature %s', async (_, headers) => {
    expect(await send(event('a'), { headers })).toMatchObject({ status: 401, body: 'unauthorized\n' });
    expect(events).toEqual([]);
    expect(logged).toContain('"refused":1');
    expect(counted).toEqual(['refused']);
  });

  test('a body that was altered on the way', async () => {
    const headers = {
      'x-whatsapp-use-signature': signature(SECRET, Math.floor(Date.now() / 1000), event('a')),
    };
    expect((await send(event('b'), { headers })).status).toBe(401);
    expect(events).toEqual([]);
  });

  test('told of at each doubling only, since anyone can send it', async () => {
    for (let n = 0; n < 20; n++) await send('x', { headers: { 'x-whatsapp-use-signature': '' } });
    expect([...logged.matchAll(/"refused":(\d+)/g)].map((match) => Number(match[1]))).toEqual([
      1, 2, 4, 8, 16,
    ]);
    expect(logged).not.toContain(SECRET);
  });
});

describe('a body', () => {
  const body = (bytes: number) =>
    JSON.stringify({ connection_id: 'conn_a', fill: '' }).replace('""', () => `"${'x'.repeat(bytes - 36)}"`);

  test('of 1 MiB is taken, of a byte more it is 413', async () => {
    expect(body(1024 ** 2)).toHaveLength(1024 ** 2);
    expect((await send(body(1024 ** 2))).status).toBe(200);
    expect((await send(body(1024 ** 2 + 1))).status).toBe(413);
    expect(events).toEqual(['conn_a']);
    expect(counted).toEqual(['accepted', 'too_large']);
  });

  test('of many MiB is 413, and not read to its end', async () => {
    const answer = await send(Buffer.alloc(64 * 1024 ** 2));
    expect(answer).toMatchObject({ status: 413, body: 'too large\n' });
    expect((await send(event('conn_a'))).status).toBe(200);
  });

  test('without an end or a length is 413 once it is too long', async () => {
    const socket = connect(server.port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('utf8').on('data', (piece: string) => {
      answer += piece;
    });
    socket.on('error', () => {});
    socket.write(`POST ${PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    await waitFor(
      () => {
        if (!socket.destroyed) socket.write(chunk);
        return answer.includes('\r\n\r\n');
      },
      { what: 'an answer', everyMs: 1 },
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    // What comes of it yet is not waited for.
    expect(answer).toMatch(/\r\nconnection: close\r\n/i);
    socket.destroy();
  });

  test("that its sender cuts off is nobody's loss, and no line in the log", async () => {
    const socket = connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc`, () =>
      socket.resetAndDestroy(),
    );
    await waitFor(() => socket.destroyed, { what: 'the end' });
    expect((await send(event('conn_a'))).status).toBe(200);
    expect(events).toEqual(['conn_a']);
    expect(logged).toBe('');
  });
});

test.each([
  ['GET', PATH, 405],
  ['PUT', PATH, 405],
  ['POST', `${PATH}/`, 404],
  ['POST', '/webhooks', 404],
  ['POST', '/', 404],
  ['GET', '/anything', 404],
])('%s %s is %i', async (method, path, status) => {
  const answer = await send('', { method, path });
  expect(answer.status).toBe(status);
  if (status === 405) expect(answer.headers).toMatchObject({ allow: 'POST' });
  expect(events).toEqual([]);
});
