import { expect, test } from 'vitest';
import { startSimulator } from '../../src/simulator/server.ts';
import { ACCEPTED, CLOCK, READABLE, UpstreamDoctor } from './upstream-doctor.ts';

const KEY = 'pa_live_simulated';

const doctor = new UpstreamDoctor();
const { examine } = doctor;

const CHECK_KEY = '    check WHATSAPP_USE_API_KEY and its scope whatsapp:read';

const key = () => doctor.simulator.world.keys.get(KEY)!;

test('all is well', async () => {
  expect(await examine()).toEqual({ status: 0, lines: [CLOCK, ACCEPTED, ...READABLE] });
});

test('another server than the API', async () => {
  const { lines } = await examine({ WHATSAPP_USE_BASE_URL: `${doctor.simulator.url}/elsewhere` });
  const advice = expect.stringContaining('check WHATSAPP_USE_BASE_URL');
  expect(lines.slice(1)).toEqual(['✗ key: GET /v1/me answers 404', advice]);
});

test('a wrong key', async () => {
  const { lines } = await examine({ WHATSAPP_USE_API_KEY: 'pa_live_of_somebody_else' });
  expect(lines).toEqual([CLOCK, '✗ key: GET /v1/me answers 401', CHECK_KEY]);
});

test('a key without the scope', async () => {
  key().scopes = ['webhooks:manage'];
  expect((await examine()).lines).toEqual([
    CLOCK,
    '✗ key: accepted, but without the scope whatsapp:read',
    '    give the key the scope whatsapp:read, or use another',
    '✗ conn_a: GET /v1/whatsapp/status answers 401',
    CHECK_KEY,
    '✗ conn_b: GET /v1/whatsapp/status answers 401',
    CHECK_KEY,
  ]);
});

test('an account that is not paired, and one that is not connected now', async () => {
  doctor.simulator.world.connection('conn_a').state.paired = false;
  doctor.simulator.world.connection('conn_b').state.connected = false;
  expect((await examine()).lines).toEqual([
    CLOCK,
    ACCEPTED,
    '✗ conn_a: the WhatsApp account is not paired',
    '    pair the WhatsApp account again',
    '! conn_b: paired, but not connected now',
    '    messages come when the phone is online again',
  ]);
  // A warning alone is no problem.
  expect(await examine({ WHATSAPP_USE_CONNECTION_IDS: 'conn_b' })).toMatchObject({ status: 0 });
});

test('no subscription', async () => {
  key().paid = false;
  expect((await examine({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a' })).lines).toEqual([
    CLOCK,
    ACCEPTED,
    '✗ conn_a: GET /v1/whatsapp/status answers 402',
    '    the subscription of the organization has to be renewed',
  ]);
});

test('a connection that the key does not reach', async () => {
  expect((await examine({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a,conn_x' })).lines).toEqual([
    CLOCK,
    ACCEPTED,
    READABLE[0],
    '! conn_x: no key lists it',
    '    check WHATSAPP_USE_CONNECTION_IDS',
    '✗ conn_x: GET /v1/whatsapp/status answers 404',
    '    the key does not reach this connection; check WHATSAPP_USE_CONNECTION_IDS',
  ]);
});

test('of several keys each is told of, and each connection asked for with its own', async () => {
  doctor.simulator.world.addKey({ key: 'pa_live_second', connections: ['conn_b'] });
  key().connectionIds = ['conn_a'];
  const { lines } = await examine({ WHATSAPP_USE_API_KEY: `${KEY},pa_live_second,pa_live_wrong` });
  expect(lines).toEqual([
    CLOCK,
    '✓ key 1: accepted, with the scope whatsapp:read',
    READABLE[0],
    '✓ key 2: accepted, with the scope whatsapp:read',
    READABLE[1],
    '✗ key 3: GET /v1/me answers 401',
    CHECK_KEY,
  ]);
});

test('a key that lists nothing is one connection without a name', async () => {
  key().connectionIds = ['conn_a'];
  key().meShape = 'none';
  expect((await examine()).lines).toEqual([CLOCK, ACCEPTED, '✓ default: paired, connected, readable']);
});

test('of a connection no more is told than the upstream tells', async () => {
  key().connectionIds = ['conn_a'];
  const told = (body: string) =>
    doctor.simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'status' });
  told('{}');
  expect((await examine()).lines).toEqual([CLOCK, ACCEPTED, '✓ conn_a: readable']);
  told('{"paired":true}');
  expect((await examine()).lines).toEqual([CLOCK, ACCEPTED, '✓ conn_a: paired, readable']);
});

test('listed ids that can be none are told of, not shown, and nothing is asked in their place', async () => {
  key().meShape = () => '{"scopes":["whatsapp:read"],"connections":["漢"]}';
  expect((await examine()).lines).toEqual([
    CLOCK,
    ACCEPTED,
    '! key: 1 of the listed connection ids cannot be used, and are not replicated',
    '    an id is printable ASCII of at most 1,024 bytes; ask the vendor for other ids',
  ]);
});

test.each([
  ['nobody listens', 'http://127.0.0.1:9', 'ECONNREFUSED', 'nothing listens there'],
  [
    'no such host',
    'https://nowhere.invalid',
    '(ENOTFOUND|EAI_AGAIN)',
    'the host of WHATSAPP_USE_BASE_URL has no address',
  ],
])('%s', async (_, url, code, remedy) => {
  const { lines } = await examine({ WHATSAPP_USE_BASE_URL: url });
  expect(lines[0]).toMatch(new RegExp(`^✗ upstream: ${new URL(url).host} does not answer .${code}.$`));
  expect(lines[1]).toMatch(`    ${remedy}`);
});

test('one that takes the request and never answers', async () => {
  doctor.simulator.faults.script({ kind: 'hang' }, 1);
  const { lines } = await examine({ REQUEST_TIMEOUT: '300ms' });
  expect(lines).toEqual([
    `✗ upstream: 127.0.0.1:${doctor.simulator.port} does not answer (REQUEST_TIMEOUT)`,
    '    check that the upstream is reachable from this machine (DNS, proxy, firewall)',
  ]);
});

test('a connection of which nothing is answered hides no other', async () => {
  doctor.simulator.faults.script({ kind: 'hang' }, 1, { connection: 'conn_a', route: 'sync' });
  const { lines } = await examine({ REQUEST_TIMEOUT: '300ms' });
  expect(lines).toEqual([
    CLOCK,
    ACCEPTED,
    '✗ conn_a: GET /v1/whatsapp/sync is not answered (REQUEST_TIMEOUT)',
    '    try again later; if it stays, ask the vendor',
    READABLE[1],
  ]);
});

test('after three in a row that are not answered the others are left alone', async () => {
  const many = await startSimulator({ messages: 20, connections: ['a', 'b', 'c', 'd', 'e'] });
  many.faults.script({ kind: 'hang' }, 10, { route: 'status' });
  const { lines } = await examine({ REQUEST_TIMEOUT: '200ms', WHATSAPP_USE_BASE_URL: many.url });
  expect(lines.slice(2).filter((line) => !line.startsWith(' '))).toEqual([
    ...['a', 'b', 'c'].map((id) => `✗ ${id}: GET /v1/whatsapp/status is not answered (REQUEST_TIMEOUT)`),
    '! 2 connections not looked at',
  ]);
  await many.close();
});

test('those that are answered in between count, and none is left where the last are not', async () => {
  const ids = ['a', 'b', 'c', 'd', 'e'];
  const many = await startSimulator({ messages: 20, connections: ids });
  const signs = async (...silent: string[]) => {
    for (const connection of silent) many.faults.script({ kind: 'hang' }, 1, { route: 'status', connection });
    const { lines } = await examine({ REQUEST_TIMEOUT: '200ms', WHATSAPP_USE_BASE_URL: many.url });
    return lines.slice(2).flatMap((line) => (line.startsWith(' ') ? [] : [line.slice(0, 3)]));
  };
  expect(await signs('a', 'b', 'd', 'e')).toEqual(['✗ a', '✗ b', '✓ c', '✗ d', '✗ e']);
  expect(await signs('c', 'd', 'e')).toEqual(['✓ a', '✓ b', '✗ c', '✗ d', '✗ e']);
  await many.close();
});

test('a key for everything is one for this; one that lists nothing is asked for the ids that are given', async () => {
  const body = JSON.stringify({ scopes: ['*'], connection_ids: ['conn_a'] });
  doctor.simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'me' });
  expect((await examine()).lines).toEqual([CLOCK, ACCEPTED, READABLE[0]]);
  key().meShape = 'none';
  const given = await examine({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a' });
  expect(given.lines).toEqual([CLOCK, ACCEPTED, READABLE[0]]);
});

test('a connection that two keys list is asked for once', async () => {
  doctor.simulator.world.addKey({ key: 'pa_live_second', connections: ['conn_a', 'conn_b'] });
  const { lines } = await examine({ WHATSAPP_USE_API_KEY: `${KEY},pa_live_second` });
  const accepted = (place: number) => `✓ key ${place}: accepted, with the scope whatsapp:read`;
  expect(lines).toEqual([CLOCK, accepted(1), ...READABLE, accepted(2)]);
});

test('answers about a connection that are none of the API’s', async () => {
  const strange = { kind: 'answer', status: 200 } as const;
  doctor.simulator.faults.script({ ...strange, body: '[]' }, 1, { route: 'status', connection: 'conn_a' });
  doctor.simulator.faults.script({ ...strange, body: '{}' }, 1, { route: 'sync', connection: 'conn_b' });
  const advice = expect.stringContaining('check WHATSAPP_USE_BASE_URL');
  expect((await examine()).lines).toEqual([
    ...[CLOCK, ACCEPTED],
    ...['✗ conn_a: GET /v1/whatsapp/status answers 200, but not as the API does', advice],
    ...['✗ conn_b: GET /v1/whatsapp/sync answers 200, but not as the API does', advice],
  ]);
});
