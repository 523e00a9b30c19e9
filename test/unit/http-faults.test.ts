import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { RouteOptions } from '../../src/ops/http/routes.ts';
import { routes } from '../../src/ops/http/routes.ts';
import { type HttpServer, serve } from '../../src/ops/http/server.ts';
import { createMetrics } from '../../src/ops/metrics.ts';
import { ask } from '../support/http.ts';
import { logLines } from '../support/log-lines.ts';

const { log, lines, empty } = logLines();
let server: HttpServer;
beforeAll(async () => {
  const options = {
    // Whatever asks it is at fault.
    db: undefined,
    token: undefined,
    health: {
      migrated: () => Promise.reject(new TypeError('a fault of this program')),
      ...{ loops: () => [], overdueAfter: 1, maxLag: 1, begun: () => true },
      alarms: () => ({ window: [], gaps: 0 }),
      keysFailing: () => 0,
    },
    metrics: createMetrics({ perConnection: true, retention: 1_000 }),
    report: { schema: 'whatsapp', leaseTtl: 1_000, window: 1_000 },
    ...{ media: true, leases: () => 0, pools: () => ({}) },
  } as unknown as RouteOptions;
  server = await serve(routes(options), { host: '127.0.0.1', port: 0 }, log);
});
afterEach(empty);
afterAll(() => server.close());

test.each(['/readyz', '/status', '/metrics', '/'])(
  '%s calls a fault of this program no outage of the database, and tells where it is',
  async (path) => {
    const answer = await ask(`http://127.0.0.1:${server.port}${path}`);
    expect(answer).toMatchObject({ status: 500, body: 'internal error\n' });
    expect(lines).toMatchObject([{ level: 'error', kind: 'internal', msg: 'HTTP request failed' }]);
    expect(lines[0]!.at).toContainEqual(expect.stringMatching(/\.ts:\d+/));
  },
);
