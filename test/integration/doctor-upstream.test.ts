import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { clockFinding } from '../../src/ops/doctor/finding.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { HAS_OPENSSL, startHttps } from '../support/https.ts';
import { quickSettings } from '../support/replica.ts';

const KEY = 'pa_live_simulated';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeEach(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a', 'conn_b'] });
});
afterEach(() => simulator.close());

/** What doctor says of the upstream, and how it ends. */
async function examine(
  more: Record<string, string> = {},
): Promise<{ status: number | string; lines: string[] }> {
  const quick = { ...quickSettings(database.url, simulator.url), REQUEST_TIMEOUT: '1s', SEARCH: 'off' };
  const env: Record<string, string> = { ...quick, ...more };
  // Node reads NODE_EXTRA_CA_CERTS when it starts.
  const run = env.NODE_EXTRA_CA_CERTS === undefined ? runCommand : runCli;
  const { status, stdout, stderr } = await run(['doctor'], env);
  expect(stdout + stderr).not.toContain(env.WHATSAPP_USE_API_KEY);
  const all = stdout.trimEnd().split('\n');
  expect(all[0]).toBe('✓ settings: complete and well-formed');
  const problems = all.filter((line) => line.startsWith('✗')).length;
  // 1 exactly where there is a problem.
  expect(status).toBe(problems > 0 ? 1 : 0);
  const told = problems === 1 ? '1 problem' : `${problems} problems`;
  expect(stderr).toBe(problems > 0 ? `wa-replica: ${told} found\n` : '');
  const at = all.findIndex((line) => line.startsWith('✓ listen'));
  expect(at).toBeGreaterThan(0);
  return { status, lines: all.slice(at + 1) };
}

const CLOCK = '✓ clock: the upstream agrees with this machine';
const ACCEPTED = '✓ key: accepted, with the scope whatsapp:read';
const READABLE = ['✓ conn_a: paired, connected, readable', '✓ conn_b: paired, connected, readable'];
const CHECK_KEY = '    check WHATSAPP_USE_API_KEY and its scope whatsapp:read';

const key = () => simulator.world.keys.get(KEY)!;

test('all is well', async () => {
  expect(await examine()).toEqual({ status: 0, lines: [CLOCK, ACCEPTED, ...READABLE] });
});

test('another server than the API', async () => {
  const { lines } = await examine({ WHATSAPP_USE_BASE_URL: `${simulator.url}/elsewhere` });
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
  simulator.world.connection('conn_a').state.paired = false;
  simulator.world.connection('conn_b').state.connected = false;
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
  simulator.world.addKey({ key: 'pa_live_second', connections: ['conn_b'] });
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
  simulator.faults.script({ kind: 'hang' }, 1);
  const { lines } = await examine({ REQUEST_TIMEOUT: '300ms' });
  expect(lines).toEqual([
    `✗ upstream: 127.0.0.1:${simulator.port} does not answer (REQUEST_TIMEOUT)`,
    '    check that the upstream is reachable from this machine (DNS, proxy, firewall)',
  ]);
});

test('a connection of which nothing is answered hides no other', async () => {
  simulator.faults.script({ kind: 'hang' }, 1, { connection: 'conn_a', route: 'sync' });
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
  simulator.faults.script({ kind: 'answer', status: 200, body }, 1, { route: 'me' });
  expect((await examine()).lines).toEqual([CLOCK, ACCEPTED, READABLE[0]]);
  key().meShape = 'none';
  const given = await examine({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a' });
  expect(given.lines).toEqual([CLOCK, ACCEPTED, READABLE[0]]);
});

test('a connection that two keys list is asked for once', async () => {
  simulator.world.addKey({ key: 'pa_live_second', connections: ['conn_a', 'conn_b'] });
  const { lines } = await examine({ WHATSAPP_USE_API_KEY: `${KEY},pa_live_second` });
  const accepted = (place: number) => `✓ key ${place}: accepted, with the scope whatsapp:read`;
  expect(lines).toEqual([CLOCK, accepted(1), ...READABLE, accepted(2)]);
});

test('answers about a connection that are none of the API’s', async () => {
  const strange = { kind: 'answer', status: 200 } as const;
  simulator.faults.script({ ...strange, body: '[]' }, 1, { route: 'status', connection: 'conn_a' });
  simulator.faults.script({ ...strange, body: '{}' }, 1, { route: 'sync', connection: 'conn_b' });
  const advice = expect.stringContaining('check WHATSAPP_USE_BASE_URL');
  expect((await examine()).lines).toEqual([
    ...[CLOCK, ACCEPTED],
    ...['✗ conn_a: GET /v1/whatsapp/status answers 200, but not as the API does', advice],
    ...['✗ conn_b: GET /v1/whatsapp/sync answers 200, but not as the API does', advice],
  ]);
});

describe('something else that answers', () => {
  let other: string;
  let status = 200;
  const server = createServer((_, answer) => {
    answer.writeHead(status, { 'content-type': 'text/html', location: 'https://log-in.example/' });
    answer.end('<!doctype html><title>Log in</title>');
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    other = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => void server.close());

  test.each([
    [200, '✗ key: GET /v1/me answers 200, but not as the API does'],
    [302, '✗ key: GET /v1/me answers 302'],
  ])('a proxy with a log-in page (%i) is no API', async (code, told) => {
    status = code;
    const { lines } = await examine({ WHATSAPP_USE_BASE_URL: other });
    expect(lines).toEqual([
      CLOCK,
      told,
      '    the answer was no sync page; check WHATSAPP_USE_BASE_URL, and what stands between',
    ]);
  });
});

describe.skipIf(!HAS_OPENSSL)('TLS', () => {
  test('a certificate that nobody signed is refused, until it is named', async () => {
    const https = await startHttps(simulator.url);
    const env = { WHATSAPP_USE_BASE_URL: https.url };
    const { lines } = await examine(env);
    expect(lines).toEqual([
      `✗ upstream: ${new URL(https.url).host} does not answer (DEPTH_ZERO_SELF_SIGNED_CERT)`,
      '    a self-signed certificate: name it by NODE_EXTRA_CA_CERTS',
    ]);
    const named = await examine({ ...env, NODE_EXTRA_CA_CERTS: https.certificate });
    expect(named.lines).toEqual([CLOCK, ACCEPTED, ...READABLE]);
    await https.close();
  });

  test('a certificate for another name', async () => {
    const https = await startHttps(simulator.url, 'another.example');
    const env = { WHATSAPP_USE_BASE_URL: https.url, NODE_EXTRA_CA_CERTS: https.certificate };
    expect((await examine(env)).lines[1]).toBe(
      '    the certificate is for another name: check WHATSAPP_USE_BASE_URL',
    );
    await https.close();
  });

  test('https where there is none', async () => {
    const url = simulator.url.replace('http:', 'https:');
    const { lines } = await examine({ WHATSAPP_USE_BASE_URL: url });
    expect(lines).toEqual([
      `✗ upstream: 127.0.0.1:${simulator.port} does not answer (ERR_SSL_WRONG_VERSION_NUMBER)`,
      '    what answers there does not speak TLS: check scheme and port of WHATSAPP_USE_BASE_URL',
    ]);
  });
});

describe('clocks', () => {
  test('an upstream in another time is told of', async () => {
    simulator.world.advance(45_000);
    const { status, lines } = await examine();
    expect(status).toBe(0);
    expect(lines[0]).toMatch(/^! clock: the upstream is 4[345] s away from this machine$/);
    expect(lines[1]).toBe('    synchronise the clocks (NTP)');
    simulator.world.advance(-90_000);
    expect((await examine()).lines[0]).toMatch(/^! clock: the upstream is 4[45] s away from this machine$/);
    simulator.world.advance(25_000);
    expect((await examine()).lines[0]).toBe(CLOCK);
  });

  test.each([
    ['within the request', 500, 'ok'],
    ['30 s behind', -30_000, 'ok'],
    ['more behind', -30_001, 'warning'],
    ['30 s ahead', 31_000, 'ok'],
    ['more ahead', 31_001, 'warning'],
  ])('%s', (_, theirs, level) => {
    expect(clockFinding('the database', theirs, [0, 1_000]).level).toBe(level);
  });
});
