import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { type CliProcess, runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

let simulator: Simulator;
let database: TestDatabase;
let env: Record<string, string>;
const running: CliProcess[] = [];
beforeAll(async () => {
  simulator = await startSimulator({ messages: 200, connections: ['conn_a', 'conn_b', 'conn_c'] });
});
afterAll(() => simulator.close());
beforeEach(async () => {
  database = await createTestDatabase({ migrated: true });
  env = quickSettings(database.url, simulator.url);
});
afterEach(async () => {
  simulator.faults.clear();
  for (const one of running.splice(0)) await one.kill('SIGKILL');
  await database.drop();
});

/** Of `status`, nothing of the upstream is wanted. */
const needs = () => ({ DATABASE_URL: database.url });

function start(args: readonly string[], settings: Record<string, string>): CliProcess {
  const one = startCli(args, settings);
  running.push(one);
  return one;
}

const json = async () => JSON.parse((await runCommand(['status', '--json'], needs())).stdout) as Report;

interface Report {
  connections: Record<string, unknown>[];
  workers: Record<string, unknown>[];
}

test('before anything is known: nothing to show, and nothing wrong', async () => {
  expect(await runCommand(['status'], needs())).toEqual({
    status: 0,
    stdout: 'no connections are known yet: start `wa-replica run` or `wa-replica sync`\n',
    stderr: '',
  });
  expect(await json()).toEqual({
    version: '0.1.0',
    schema_version: expect.stringMatching(/^\d{4}_\w+$/),
    workers: [],
    connections: [],
  });
});

test('--json has the form that the contract gives, with every int64 as a string', async () => {
  // More than a JavaScript number holds, wherever there may be that much.
  const most = '9223372036854775807';
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  await database.query(
    `update whatsapp.sync_state set cursor = $1::bigint, stored_conversations = $1::bigint,
      stored_contacts = $1::bigint, stored_messages = $1::bigint where connection_id = 'conn_a'`,
    [most],
  );
  simulator.faults.script({ kind: 'answer', status: 401 }, 1_000, { route: 'sync', connection: 'conn_b' });
  const daemon = start(['run'], { ...env, WHATSAPP_USE_CONNECTION_IDS: 'conn_b' });
  await daemon.logged('connection parked');
  // A failure is noted after it was told of.
  const noted = `select from whatsapp.sync_state where connection_id = 'conn_b' and last_error is not null`;
  await waitFor(async () => (await database.query(noted)).length > 0, { what: 'the failure to be noted' });
  await database.query(`update whatsapp.connections set removed_at = now() where connection_id = 'conn_c'`);
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const count = expect.stringMatching(/^\d+$/);
  const rows = { conversations: count, contacts: count, messages: count };
  const calm = {
    epoch: 1,
    caught_up_at: time,
    lag_seconds: expect.any(Number),
    window_left_seconds: expect.any(Number),
    consecutive_failures: 0,
    last_error_kind: null,
    last_error: null,
    worker: null,
    quarantined: '0',
    gaps: '0',
    window_alarm: null,
    verification: null,
  };
  expect(await json()).toEqual({
    version: '0.1.0',
    schema_version: expect.stringMatching(/^\d{4}_\w+$/),
    workers: [
      {
        worker_id: expect.stringMatching(/-[0-9a-f]{8}$/),
        started_at: time,
        heartbeat_at: time,
        version: '0.1.0',
        host: expect.any(String),
        connections: 1,
      },
    ],
    connections: [
      {
        ...calm,
        connection_id: 'conn_a',
        state: 'live',
        cursor: most,
        rows: { conversations: most, contacts: most, messages: most },
      },
      {
        ...calm,
        connection_id: 'conn_b',
        state: 'parked',
        cursor: count,
        consecutive_failures: expect.any(Number),
        last_error_kind: 'unauthorized',
        last_error: 'GET /v1/whatsapp/sync: HTTP 401',
        worker: expect.stringMatching(/-[0-9a-f]{8}$/),
        rows,
      },
      { ...calm, connection_id: 'conn_c', state: 'removed', cursor: count, rows },
    ],
  });
});

test('lag is counted from the last catch-up, before the first one from discovery', async () => {
  await database.query(`insert into whatsapp.connections (connection_id, discovered_at) values
    ('conn_new', now() - interval '100 seconds'), ('conn_old', now() - interval '1 year')`);
  await database.query(`insert into whatsapp.sync_state (connection_id, last_polled_at, caught_up_at) values
    ('conn_new', null, null), ('conn_old', now(), now() - interval '1 hour')`);
  const [fresh, old] = (await json()).connections as { lag_seconds: number; window_left_seconds: number }[];
  expect(fresh).toMatchObject({ state: 'starting', caught_up_at: null });
  expect(fresh?.lag_seconds).toBeGreaterThanOrEqual(100);
  expect(fresh?.lag_seconds).toBeLessThan(160);
  expect(old?.lag_seconds).toBeGreaterThanOrEqual(3_600);
  expect(old?.lag_seconds).toBeLessThan(3_660);
  expect(Math.round((old?.lag_seconds ?? 0) + (old?.window_left_seconds ?? 0))).toBe(30 * 86_400);
});

test('the table says the same, without colour where nobody looks', async () => {
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  const { status, stdout, stderr } = await runCli(['status'], { ...needs(), FORCE_COLOR: '1' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).not.toContain('\u001b');
  const lines = stdout.split('\n');
  expect(lines[0]).toMatch(/^connection +state +cursor +rows +caught up +lag +window +worker$/);
  expect(lines[1]).toMatch(/^conn_a +live +\d{16} +\d+ +\d\d-\d\d \d\d:\d\d +[\d.]+m?s +30d +–$/);
  expect(stdout).toContain('workers: none alive');
});

test('--watch looks again and again, through an outage too, and ends on SIGINT with 0', async () => {
  const url = new URL(database.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  const watching = start(['status', '--watch', '--json'], { DATABASE_URL: url.href });
  const looks = () => watching.stdout.split('\n').length - 1;
  await waitFor(() => looks() >= 2, { what: 'the second look' });
  await proxy.refuse();
  proxy.cut();
  await waitFor(() => watching.stderr.includes('does not answer'), { what: 'word of the outage' });
  await proxy.heal();
  const before = looks();
  await waitFor(() => looks() > before, { what: 'a look after it' });
  for (const line of watching.stdout.trim().split('\n'))
    expect(JSON.parse(line)).toMatchObject({ workers: [] });
  expect(await watching.kill('SIGINT')).toBe(0);
  await proxy.close();
});

test('--watch ends where it is no outage, which no looking mends', async () => {
  await database.query('alter table whatsapp.sync_state rename to elsewhere');
  const { status, stderr } = await runCommand(['status', '--watch'], needs());
  expect([status, stderr]).toEqual([
    1,
    expect.stringContaining('wa-replica: database: using Postgres: 42P01'),
  ]);
});

test.each([
  ['not there', 'schema_pending: nothing is in the schema whatsapp yet', 'run `wa-replica migrate`'],
  ['behind', 'schema_pending: the schema lacks 0017_literals\n', 'run `wa-replica migrate`'],
  ['ahead', 'schema_newer: the schema has 9999_later', 'run the version of wa-replica that made it'],
])('a schema that is %s is no status, but says what to do', async (which, told, remedy) => {
  if (which === 'not there') await database.query('drop schema whatsapp cascade');
  else if (which === 'behind')
    await database.query(`delete from whatsapp.kysely_migration where name = '0017_literals'`);
  else await database.query(`insert into whatsapp.kysely_migration values ('9999_later', now()::text)`);
  const { status, stdout, stderr } = await runCommand(['status', '--json'], needs());
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
  expect(stderr).toContain(told);
  expect(stderr).toContain(remedy);
});

test('--watch ends with whoever reads it', async () => {
  const watching = start(['status', '--watch', '--json'], needs());
  watching.process.stdout!.once('data', () => watching.process.stdout!.destroy());
  await waitFor(() => watching.end !== undefined, { what: 'the end', deadlineMs: 30_000 });
  expect({ status: watching.end, stderr: watching.stderr }).toEqual({ status: 0, stderr: '' });
});
