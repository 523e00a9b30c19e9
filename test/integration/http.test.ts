import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { httpOf, useDaemons } from '../support/daemons.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ask, bearer, readiness } from '../support/http.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const TOKEN = 'a-token-of-this-test';

let simulator: Simulator;
let database: TestDatabase;
let proxy: TcpProxy;
let env: Record<string, string>;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 200, connections: ['conn_a', 'conn_b'] });
});
afterAll(() => simulator.close());
beforeEach(async () => {
  database = await createTestDatabase();
  const url = new URL(database.url);
  proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  env = {
    ...quickSettings(url.href, simulator.url),
    HTTP_PORT: '0',
    HTTP_AUTH_TOKEN: TOKEN,
    READY_MAX_LAG: '1s',
  };
});
const daemons = useDaemons(() => env);
afterEach(async () => {
  simulator.faults.clear();
  for (const connection of simulator.world.connections.values()) connection.state.paired = true;
  await daemons.stopAll();
  await proxy.close();
  await database.drop();
});

const live = { status: 200, body: '{"status":"live"}\n' };

async function startReady(more: Record<string, string> = {}): Promise<string> {
  const base = await httpOf(daemons.start(more));
  // One of two may be first; but with none it is not ready.
  expect(await readiness(base, { status: 200 })).not.toMatchObject({ connections: { current: 0 } });
  await readiness(base, { status: 200, says: '"status":"ready"' });
  return base;
}

test('before the schema is there: alive, not ready, and /status says why', async () => {
  // As another migration would.
  const migrating = new pg.Client({ connectionString: database.url });
  await migrating.connect();
  await migrating.query('begin');
  await migrating.query('select pg_advisory_xact_lock(3853314791062309107)');
  const daemon = daemons.start();
  const base = await httpOf(daemon);
  await daemon.logged('waiting');
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  const state = await readiness(base, { status: 503 });
  expect(state).toMatchObject({ status: 'unready', reason: "the schema is not this version's" });
  const answer = await ask(`${base}/status`, { headers: bearer(TOKEN) });
  expect(answer).toMatchObject({ status: 503, body: '{"error":"the schema is not this version\'s"}\n' });
  const page = await ask(base, { headers: bearer(TOKEN) });
  expect(page).toMatchObject({ status: 503, body: expect.stringContaining('not this version') });
  const metrics = await ask(`${base}/metrics`, { headers: bearer(TOKEN) });
  expect(metrics).toMatchObject({ status: 200, body: expect.stringContaining('wa_replica_database_up 0') });
  await migrating.query('rollback');
  await migrating.end();
  await readiness(base, { status: 200, says: '"status":"ready"' });
});

test('a start that does not know its connections is not ready: alive but not syncing', async () => {
  simulator.faults.script({ kind: 'answer', status: 401 }, 10_000, { route: 'me' });
  const base = await httpOf(daemons.start());
  const state = await readiness(base, { status: 503, says: 'not known yet' });
  expect(state).toMatchObject({ status: 'unready', connections: { held: 0, current: 0, parked: 0 } });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  simulator.faults.clear();
  await readiness(base, { status: 200, says: '"status":"ready"' });
});

test('a database that refuses, is cut off or swallows everything: unready, and alive all along', async () => {
  const base = await startReady();
  await proxy.refuse();
  proxy.cut();
  expect(await readiness(base, { status: 503 })).toMatchObject({
    reason: expect.stringContaining('database'),
  });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  await proxy.heal();
  await readiness(base, { status: 200 });
  proxy.blackhole();
  expect(await readiness(base, { status: 503 })).toMatchObject({ reason: 'the database does not answer' });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  const headers = bearer(TOKEN);
  const before = performance.now();
  const [status, metrics, page] = await Promise.all(
    ['/status', '/metrics', '/'].map((path) => ask(base + path, { headers })),
  );
  // Within what a scrape may take.
  expect(performance.now() - before).toBeLessThan(10_000);
  expect(status).toMatchObject({ status: 503, body: '{"error":"the database is out of reach"}\n' });
  expect(metrics).toMatchObject({ status: 200, body: expect.stringContaining('wa_replica_database_up 0') });
  // Nothing is known, so nothing is told.
  expect(metrics?.body).not.toMatch(/^wa_replica_(max_lag_seconds|quarantine_records) /m);
  expect(page).toMatchObject({ status: 503, body: expect.stringContaining('database is out of reach') });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  await proxy.heal();
  await readiness(base, { status: 200 }, {}, 30_000);
});

test('an upstream that only fails: unready when nothing is current, and alive all along', async () => {
  const base = await startReady();
  simulator.faults.setRates({ unavailable: 1 });
  const state = await readiness(base, { status: 503 }, bearer(TOKEN));
  expect(state).toMatchObject({
    status: 'unready',
    reason: 'no connection is current',
    connections: { held: 2, current: 0, parked: 0 },
    behind: [
      {
        connection_id: 'conn_a',
        parked: false,
        kind: 'not_ready',
        error: expect.stringContaining('HTTP 503'),
      },
      {
        connection_id: 'conn_b',
        parked: false,
        kind: 'not_ready',
        error: expect.stringContaining('HTTP 503'),
      },
    ],
  });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
  simulator.faults.clear();
  await readiness(base, { status: 200, says: '"status":"ready"' });
});

test('a Retry-After of hours, and a request that hangs, do not make it dead', async () => {
  const base = await startReady({ REQUEST_TIMEOUT: '1s' });
  const unavailable = { kind: 'unavailable', retryAfter: 3 * 3600 } as const;
  simulator.faults.script(unavailable, 1, { route: 'sync', connection: 'conn_a' });
  simulator.faults.script({ kind: 'hang' }, 3, { route: 'sync', connection: 'conn_b' });
  await waitFor(() => simulator.faults.scripted === 0, { what: 'the faults' });
  await readiness(base, { status: 200, says: '"current":2' });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
});

test('one of two that cannot go on is degraded, all of them unready; the details want the token', async () => {
  // What is parked is not current, however long that is; and nothing else is to be late.
  const base = await startReady({ READY_MAX_LAG: '1m' });
  simulator.world.connection('conn_a').state.paired = false;
  await readiness(base, { status: 200, says: 'degraded' });
  const told = await readiness(base, { status: 200, says: '"parked":1' }, bearer(TOKEN));
  expect(told).toEqual({
    status: 'degraded',
    connections: { held: 2, current: 1, parked: 1 },
    behind: [
      {
        connection_id: 'conn_a',
        seconds_since_poll: expect.any(Number),
        parked: true,
        kind: 'not_paired',
        error: expect.stringContaining('HTTP 409'),
        what_to_do: 'pair the WhatsApp account again',
      },
    ],
    window: [],
    gaps: 0,
    keys_failing: 0,
  });
  const anyone = await ask(`${base}/readyz`);
  expect(JSON.parse(anyone.body)).toEqual({
    status: 'degraded',
    connections: { held: 2, current: 1, parked: 1 },
    behind: 1,
    window: 0,
    gaps: 0,
    keys_failing: 0,
  });
  simulator.world.connection('conn_b').state.paired = false;
  const all = await readiness(base, { status: 503 });
  expect(all).toMatchObject({
    status: 'unready',
    connections: { held: 2, current: 0, parked: 2 },
    behind: 2,
  });
  expect(await ask(`${base}/healthz`)).toMatchObject(live);
});

test('a standby without connections is ready, and takes over', async () => {
  const only = { WHATSAPP_USE_CONNECTION_IDS: 'conn_a' };
  const first = daemons.start(only);
  await readiness(await httpOf(first), { status: 200, says: '"current":1' });
  const base = await httpOf(daemons.start(only));
  expect(await readiness(base, { status: 200 })).toMatchObject({
    status: 'ready',
    connections: { held: 0, current: 0, parked: 0 },
  });
  await first.kill('SIGKILL');
  await readiness(base, { status: 200, says: '"current":1' });
});

test('the page says so where nobody asks for a connection any more', async () => {
  await startReady();
  await daemons.stopAll();
  const base = await httpOf(daemons.start({ WHATSAPP_USE_CONNECTION_IDS: 'conn_a', READY_MAX_LAG: '3s' }));
  const says = async () => {
    const { body } = await ask(base, { headers: bearer(TOKEN) });
    const told = ['>1 of 2 connections does not replicate<', '</span>was live, no worker has it</p>'];
    return told.every((part) => body.includes(part));
  };
  await waitFor(says, { what: 'the page to tell of conn_b' });
});

test('/status is what status --json prints', async () => {
  // After the first poll nothing moves any more but the clock.
  const calm = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '1h' };
  const base = await httpOf(daemons.start(calm));
  await readiness(base, { status: 200, says: '"current":2' });
  const served = await ask(`${base}/status`, { headers: bearer(TOKEN) });
  const printed = await runCommand(['status', '--json'], { ...env, LEASE_TTL: '1h' });
  expect(served.headers['content-type']).toBe('application/json; charset=utf-8');
  const parts = (text: string) =>
    JSON.parse(text, (name, value: unknown) =>
      ['lag_seconds', 'window_left_seconds', 'heartbeat_at'].includes(name) ? typeof value : value,
    ) as unknown;
  expect(printed.status).toBe(0);
  expect(parts(served.body)).toEqual(parts(printed.stdout));
});
