import { connect } from 'node:net';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { guarded } from '../../src/ops/http/access.ts';
import { type HttpServer, serve } from '../../src/ops/http/server.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { ask, basic, bearer } from '../support/http.ts';

const log = createLogger({ level: 'silent', format: 'json', stream: process.stderr });
const open = (token?: string) =>
  guarded({ method: 'GET', path: '/', answer: () => ({ status: 200 }) }, token);
let server: HttpServer | undefined;
beforeAll(async () => {
  const route = open();
  // A machine without IPv6 has no such address.
  server = await serve([route], { host: '::', port: 0 }, log).catch(() => undefined);
});
afterAll(() => server?.close());

test.for(['127.0.0.1', '[::1]'])(
  '%s is this machine, on a server of both families',
  async (host, context) => {
    context.skip(server === undefined || !(await reaches(host)), 'this machine has no such address');
    expect((await ask(`http://${host}:${server!.port}/`)).status).toBe(200);
  },
);

test('a token with other letters than English ones is taken as UTF-8, as clients send it', async () => {
  const token = 'schlüssel-鍵';
  const closed = await serve([open(token)], { host: '127.0.0.1', port: 0 }, log);
  onTestFinished(() => closed.close());
  for (const headers of [bearer(token), basic('', token)]) {
    expect((await ask(`http://127.0.0.1:${closed.port}/`, { headers })).status).toBe(200);
  }
  expect((await ask(`http://127.0.0.1:${closed.port}/`, { headers: bearer('schlüssel-u') })).status).toBe(
    401,
  );
});

function reaches(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(server!.port, host.replace(/[[\]]/g, ''), () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
