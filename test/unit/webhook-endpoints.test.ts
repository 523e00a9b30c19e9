import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';
import { WebhookEndpoints } from '../../src/upstream/webhooks.ts';

const { signal } = new AbortController();
let server: Server;
let upstream: UpstreamClient;
let endpoints: WebhookEndpoints;
let answer: unknown;

beforeEach(async () => {
  server = createServer((_, response) => void response.end(JSON.stringify(answer)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const baseUrl = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  upstream = new UpstreamClient({ baseUrl, requestTimeout: 30_000, maxSockets: 1, userAgent: 'test' });
  endpoints = new WebhookEndpoints(upstream, fixedKey('key'));
});
afterEach(async () => {
  await upstream.close();
  server.close();
});

const URL_ = 'https://crm.example.com/hook';
const created = () => endpoints.create(URL_, [], signal);

describe('an endpoint is understood', () => {
  const whole = {
    id: 'e',
    url: URL_,
    enabled: false,
    event_types: ['a'],
    connection_ids: ['c'],
    secret: 's',
  };
  const read = { id: 'e', url: URL_, enabled: false, eventTypes: ['a'], connectionIds: ['c'], secret: 's' };
  const bare = { ...read, url: '', enabled: true, eventTypes: [], connectionIds: [], secret: undefined };

  test.each<[string, object, object]>([
    ['by itself', whole, read],
    ['beside what else is told', { endpoint: whole, id: 'of the request' }, read],
    [
      'of all connections, whatever it lists',
      { ...whole, all_accounts: true },
      { ...read, connectionIds: undefined },
    ],
    ['with nothing but its id', { id: 'e' }, bare],
    ['with what is none of it', { id: 'e', url: 7, event_types: 'a', connection_ids: [7], secret: '' }, bare],
  ])('%s', async (_, told, expected) => {
    answer = told;
    expect(await created()).toEqual(expected);
  });

  test.each([{}, null, { id: '' }, { endpoint: { id: 7 } }])('%j is none', async (told) => {
    answer = told;
    await expect(created()).rejects.toMatchObject({ kind: 'protocol' });
  });

  test.each([
    [{ items: [whole] }, [read]],
    [{ items: null }, []],
  ])('in the list %j', async (told, expected) => {
    answer = told;
    expect(await endpoints.list(signal)).toEqual(expected);
  });

  test.each([{}, null, [], 'x', { items: {} }])('%j is no list of none', async (told) => {
    answer = told;
    await expect(endpoints.list(signal)).rejects.toMatchObject({
      kind: 'protocol',
      hint: expect.stringContaining('WHATSAPP_USE_BASE_URL'),
    });
  });
});

test.each([
  [{ delivery: { status_code: 204 }, status_code: 200 }, 204],
  [{ status_code: 502 }, 502],
  [{ status_code: '200' }, undefined],
  [{ delivery: null }, undefined],
  [null, undefined],
])('of the test %j the URL answered %s', async (told, status) => {
  answer = told;
  expect(await endpoints.test('e', signal)).toBe(status);
});
