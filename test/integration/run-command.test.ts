import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useDaemons } from '../support/daemons.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

let simulator: Simulator;
const database = useFreshDatabase();
let env: Record<string, string>;
const { start } = useDaemons(() => env);

beforeAll(async () => {
  simulator = await startSimulator({ messages: 4_000, connections: 2 });
});
afterAll(() => simulator.close());
beforeEach(async () => {
  env = quickSettings(database.url, simulator.url);
});
afterEach(async () => {
  simulator.faults.clear();
});

const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const rows = async () =>
  Number(
    (await database.query<{ n: string }>('select count(*) as n from whatsapp.messages').catch(() => []))[0]
      ?.n ?? 0,
  );
const leased = () => database.query('select from whatsapp.sync_state where lease_owner is not null');

test('replicates the backlog and what comes after, and ends well on SIGTERM', async () => {
  const daemon = start();
  await waitFor(agrees, { what: 'the backlog' });
  simulator.world.applyChanges(100);
  await waitFor(agrees, { what: 'the changes' });
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(daemon.stderr).toContain('"msg":"stopped"');
  expect(await leased()).toEqual([]);
  expect(await database.query('select from whatsapp.workers')).toEqual([]);
});

test('killed in mid-backlog and started again, the tables equal the truth', async () => {
  const small = { PAGE_LIMIT: '20' };
  for (let kills = 0; kills < 3; kills++) {
    const daemon = start(small);
    const before = await rows();
    await waitFor(async () => (await rows()) > before + 100, { what: 'some rows' });
    await daemon.kill('SIGKILL');
  }
  expect(await agrees()).toBe(false);
  start();
  await waitFor(agrees, { what: 'the backlog' });
  const gaps = await database.query(`
    select from (select cursor_from, lag(cursor_to) over (partition by connection_id, epoch order by page_id) as before
      from whatsapp.sync_pages) p where before is not null and before <> cursor_from`);
  expect(gaps).toEqual([]);
});

test('SIGTERM in mid-backlog finishes the page in hand and gives the leases back', async () => {
  const daemon = start({ PAGE_LIMIT: '5' });
  await waitFor(async () => (await rows()) > 50, { what: 'some rows' });
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(await leased()).toEqual([]);
});

test.each(['SIGINT', 'SIGHUP'] as const)('%s while a request hangs ends at once', async (signal) => {
  simulator.faults.script({ kind: 'hang' }, 100, { route: 'sync' });
  const before = simulator.faults.struck.hang ?? 0;
  const daemon = start({ REQUEST_TIMEOUT: '1h' });
  await waitFor(() => (simulator.faults.struck.hang ?? 0) > before, { what: 'the hang' });
  expect(await daemon.kill(signal)).toBe(0);
  expect(daemon.stderr).toContain('"msg":"stopped"');
});

test('the simulator ends with its terminal, too', async () => {
  const alone = startCli(['simulate', '--port', '0', '--messages', '10'], {});
  await waitFor(() => alone.stdout.includes('key='), { what: 'its address' });
  expect(await alone.kill('SIGHUP')).toBe(0);
});

test('a second signal ends the process where it stands', async () => {
  const proxy = await startTcpProxy({
    host: new URL(database.url).hostname,
    port: Number(new URL(database.url).port),
  });
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const daemon = start({
    DATABASE_URL: url.href,
    SHUTDOWN_TIMEOUT: '1h',
    POLL_INTERVAL: '1h',
    POLL_INTERVAL_IDLE: '1h',
  });
  await waitFor(agrees, { what: 'the backlog' });
  proxy.blackhole();
  daemon.process.kill('SIGTERM');
  await daemon.logged('stopping');
  expect(daemon.process.exitCode).toBeNull();
  expect(await daemon.kill('SIGTERM')).toBe(1);
  await proxy.close();
});

test('SHUTDOWN_TIMEOUT bounds a shutdown without a database', async () => {
  const url = new URL(database.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  const daemon = start({ DATABASE_URL: url.href, SHUTDOWN_TIMEOUT: '500ms' });
  await waitFor(agrees, { what: 'the backlog' });
  proxy.blackhole();
  // A session that ends says so by both, of which either may come first: that asks for no haste.
  daemon.process.kill('SIGHUP');
  await daemon.logged('stopping');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  const [, after] = daemon.stderr.split('dropping the page in hand');
  // What fails since nobody waits for it any more is no news, let alone a fault of the program.
  expect(after).toBeDefined();
  expect(after).not.toMatch(/cannot renew leases|"internal"/);
  await proxy.close();
});

test('what is dropped at the end is told of once, and not as faults of this program', async () => {
  const daemon = start({ SHUTDOWN_TIMEOUT: '1s', LEASE_TTL: '1m' });
  await waitFor(agrees, { what: 'the backlog' });
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  try {
    await other.query('begin; lock table whatsapp.messages');
    simulator.world.applyChanges(100);
    const waiting = `select from pg_stat_activity where datname = current_database()
    and application_name = 'wa-replica pages' and wait_event_type = 'Lock'`;
    await waitFor(async () => (await database.query(waiting)).length, { what: 'a page to wait' });
    expect(await daemon.kill('SIGTERM')).toBe(0);
  } finally {
    await other.end();
  }
  const last = daemon.stderr.trim().split('\n').at(-1)!;
  expect(JSON.parse(last)).toMatchObject({ msg: 'stopped, dropping the page in hand' });
});

test('waits for a database that is not up yet, and goes on by itself when it is cut off', async () => {
  const url = new URL(database.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  await proxy.refuse();
  const daemon = start({ DATABASE_URL: url.href });
  await daemon.logged('waiting');
  await proxy.heal();
  await waitFor(agrees, { what: 'the backlog' });
  await proxy.refuse();
  proxy.cut();
  simulator.world.applyChanges(100);
  await daemon.logged('turn failed');
  await proxy.heal();
  await waitFor(agrees, { what: 'the changes' });
  await daemon.logged('recovered');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  await proxy.close();
});

test('asked to stop while it waits for its database, it says that it has', async () => {
  const url = new URL(database.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  await proxy.refuse();
  const daemon = start({ DATABASE_URL: url.href });
  await daemon.logged('waiting');
  expect(await daemon.kill('SIGTERM')).toBe(0);
  const last = daemon.stderr.trim().split('\n').at(-1)!;
  expect(JSON.parse(last)).toMatchObject({ level: 'info', msg: 'stopped' });
  await proxy.close();
});

test('wrong configuration: every problem at once, nothing touched, exit 2', async () => {
  const { status, stderr } = await runCli(['run'], {
    DATABASE_URL: 'mysql://secret@host/db',
    POLL_INTERVAL: 'often',
    WA_REPLICA_SCHEMAS: 'x',
    WHATSAPP_USE_APIKEY: 'pa_live_secret',
  });
  expect(status).toBe(2);
  for (const name of ['DATABASE_URL', 'POLL_INTERVAL', 'WA_REPLICA_SCHEMAS', 'WHATSAPP_USE_API_KEY']) {
    expect(stderr).toContain(name);
  }
  expect(stderr).not.toContain('secret');
});

test('an unknown command or option is wrong usage: exit 2', async () => {
  const [unknown, odd, none, help] = await Promise.all([
    runCli(['replicate'], {}),
    runCli(['run', '--fast'], {}),
    runCli([], {}),
    runCli(['--help'], {}),
  ]);
  expect(unknown).toMatchObject({ status: 2 });
  expect(odd).toMatchObject({ status: 2 });
  expect(none).toMatchObject({ status: 2, stderr: expect.stringContaining('Usage') });
  expect(help).toMatchObject({ status: 0, stdout: expect.stringContaining('Usage') });
  for (const command of ['run', 'sync', 'migrate', 'resync', 'demo', 'simulate']) {
    expect(await runCommand([command, '--help'], {})).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('Usage'),
    });
  }
});

test('help is a command everywhere, and what is mistyped is guessed', async () => {
  for (const args of [['help'], ['help', 'run'], ['gaps', 'help', 'list'], ['quarantine', 'help']]) {
    const { status, stdout } = await runCommand(args, {});
    expect([args, status, stdout]).toEqual([args, 0, expect.stringContaining('Usage: wa-replica')]);
    expect(stdout).not.toContain('[]');
  }
  for (const args of [['statsu'], ['media', 'statsu']]) {
    const { status, stderr } = await runCommand(args, {});
    expect([status, stderr]).toEqual([2, expect.stringMatching(/Did you mean status\?.*\n\(see --help\)/)]);
  }
  // A command that has others, alone, is wrong usage.
  expect(await runCommand(['gaps'], {})).toMatchObject({ status: 2, stdout: '' });
});
