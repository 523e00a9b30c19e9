/** What `doctor` says of the way to the upstream: what else may answer there, TLS, and the time. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clockFinding } from '../../src/ops/doctor/finding.ts';
import { HAS_OPENSSL, startHttps } from '../support/https.ts';
import { ACCEPTED, CLOCK, READABLE, UpstreamDoctor } from './upstream-doctor.ts';

const doctor = new UpstreamDoctor();
const { examine } = doctor;

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
      '    the answer is not as the API documents it; check WHATSAPP_USE_BASE_URL, and what stands between',
    ]);
  });
});

describe.skipIf(!HAS_OPENSSL)('TLS', () => {
  test('a certificate that nobody signed is refused, until it is named', async () => {
    const https = await startHttps(doctor.simulator.url);
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
    const https = await startHttps(doctor.simulator.url, 'another.example');
    const env = { WHATSAPP_USE_BASE_URL: https.url, NODE_EXTRA_CA_CERTS: https.certificate };
    expect((await examine(env)).lines[1]).toBe(
      '    the certificate is for another name: check WHATSAPP_USE_BASE_URL',
    );
    await https.close();
  });

  test('https where there is none', async () => {
    const url = doctor.simulator.url.replace('http:', 'https:');
    const { lines } = await examine({ WHATSAPP_USE_BASE_URL: url });
    expect(lines).toEqual([
      `✗ upstream: 127.0.0.1:${doctor.simulator.port} does not answer (ERR_SSL_WRONG_VERSION_NUMBER)`,
      '    what answers there does not speak TLS: check scheme and port of WHATSAPP_USE_BASE_URL',
    ]);
  });
});

describe('clocks', () => {
  test('an upstream in another time is told of', async () => {
    doctor.simulator.world.advance(45_000);
    const { status, lines } = await examine();
    expect(status).toBe(0);
    expect(lines[0]).toMatch(/^! clock: the upstream is 4[345] s away from this machine$/);
    expect(lines[1]).toBe('    synchronise the clocks (NTP)');
    doctor.simulator.world.advance(-90_000);
    expect((await examine()).lines[0]).toMatch(/^! clock: the upstream is 4[45] s away from this machine$/);
    doctor.simulator.world.advance(25_000);
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
