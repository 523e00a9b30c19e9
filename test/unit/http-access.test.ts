import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { guarded } from '../../src/ops/http/access.ts';
import { type HttpServer, serve } from '../../src/ops/http/server.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { ask } from '../support/http.ts';

let server: HttpServer | undefined;
beforeAll(async () => {
  const log = createLogger({ level: 'silent', format: 'json', stream: process.stderr });
  const route = guarded({ method: 'GET', path: '/', answer: () => ({ status: 200 }) }, undefined);
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

function reaches(host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(server!.port, host.replace(/[[\]]/g, ''), () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
