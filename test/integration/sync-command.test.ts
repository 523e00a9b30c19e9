import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { BUILT, runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker } from '../support/worker.ts';

let simulator: Simulator;
const database = useFreshDatabase();
let env: Record<string, string>;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 3_000, connections: 2 });
});
afterAll(() => simulator.close());
beforeEach(async () => {
  env = quickSettings(database.url, simulator.url);
});
afterEach(async () => {
  simulator.faults.clear();
});

/** How many rows were ever written, table by table; Postgres counts them for itself. */
async function writes() {
  // A backend tells its counts when it ends, if not before, which it does after the process that it was for.
  const others = `select from pg_stat_activity where datname = current_database()
    and application_name like 'wa-replica %' and application_name not like 'wa-replica test%'`;
  await waitFor(async () => (await database.query(others)).length === 0, { what: 'the backends to end' });
  return await database.query(`
    select relname, n_tup_ins + n_tup_upd + n_tup_del as written from pg_stat_user_tables
    where relname in ('messages', 'conversations', 'contacts', 'conversation_participants', 'message_revisions',
      'quarantine', 'sync_pages') order by 1`);
}

describe.each([
  ['from the sources', undefined],
  ['from dist/', BUILT],
])('%s', (_, bin) => {
  test('catches up, says what it did, and a second pass writes no row', async () => {
    const first = await runCli(['sync'], env, bin);
    // A slow machine tells of the progress.
    expect(first.stderr.replaceAll(/^\d\/2 connections.*\n/gm, '')).toBe('');
    expect(first.status).toBe(0);
    expect(first.stdout).toMatch(
      /caught up: \d+ pages, \d+ rows written, 0 unchanged\n[\s\S]*2\/2 connections/,
    );
    expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
    const before = await writes();
    const second = await runCli(['sync'], env, bin);
    expect(second).toMatchObject({ status: 0 });
    expect(second.stdout).toMatch(/0 rows written/);
    expect(await writes()).toEqual(before);
  });
});

test('only the connection that is named', async () => {
  const [id] = [...simulator.world.connections.keys()];
  const { status, stdout } = await runCommand(['sync', '--connection', id!], env);
  expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('1/1 connections') });
  const found = await database.query('select distinct connection_id from whatsapp.messages');
  expect(found).toEqual([{ connection_id: id }]);
});

test('an id that the key does not reach is refused, and leaves nothing to fail in later passes', async () => {
  const typo = await runCommand(['sync', '--connection', 'conn_typo'], env);
  expect(typo).toMatchObject({ status: 1, stdout: '' });
  expect(typo.stderr).toContain('no connection conn_typo is known here, and the key does not reach it');
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  expect(await database.query('select from whatsapp.connections')).toHaveLength(2);
});

test('a connection that is gone upstream is told of once, and fails no later pass', async () => {
  await runCommand(['sync'], env);
  const [id, gone] = [...simulator.world.connections.keys()];
  simulator.world.addKey({ key: 'pa_live_of_one', connections: [id!] });
  const less = { ...env, WHATSAPP_USE_API_KEY: 'pa_live_of_one' };
  const { status, stdout } = await runCommand(['sync'], less);
  expect(status).toBe(0);
  expect(stdout).toContain(`${gone}: removed: no key lists it any more; its rows stay\n1/1 connections`);
  const again = await runCommand(['sync'], less);
  expect(again).toMatchObject({ status: 0, stderr: '' });
  expect(again.stdout).not.toContain(gone);
  // Who asks for it by its id is told that there is none.
  expect(await runCommand(['sync', '--connection', gone!], less)).toMatchObject({ status: 1 });
  expect(await runCommand(['sync'], less)).toMatchObject({ status: 0 });
});

test('faults of every kind are waited out', async () => {
  simulator.faults.setRates(0.3);
  const faulty = { ...env, PAGE_LIMIT: '100', REQUEST_TIMEOUT: '1s', LOG_LEVEL: 'silent' };
  await waitFor(async () => (await runCommand(['sync'], faulty)).status === 0, {
    what: 'a pass that gets through',
    deadlineMs: 50_000,
  });
  expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
});

test('one that has failed for long is tried as often as any other', async () => {
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  await database.query(
    `update whatsapp.sync_state set consecutive_failures = 100, last_error_kind = 'network', last_error = 'before'`,
  );
  simulator.faults.script({ kind: 'internal', retryAfter: null }, 1, { route: 'sync' });
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
});

test('told to end while a request hangs, it gives its leases back and ends', async () => {
  const { struck } = simulator.faults;
  const { hang: before = 0 } = struck;
  simulator.faults.script({ kind: 'hang' }, 100, { route: 'sync' });
  const stop = new AbortController();
  const pass = runCommand(['sync'], { ...env, SHUTDOWN_TIMEOUT: '1h', REQUEST_TIMEOUT: '1h' }, stop.signal);
  await waitFor(() => struck.hang === before + 2, { what: 'both to hang' });
  stop.abort(new DOMException('the test stops it', 'AbortError'));
  expect(await pass).toMatchObject({ status: 1, stderr: 'wa-replica: 2 of 2 not caught up\n' });
  const leased = 'select from whatsapp.sync_state where lease_owner is not null';
  expect(await database.query(leased)).toEqual([]);
});

test('a gap that it records is told of, and so is that it starts over', async () => {
  const [gap, over] = [...simulator.world.connections.keys()];
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0, stderr: '' });
  await database.query(
    `update whatsapp.sync_state set caught_up_at = now() - interval '31 days' where connection_id = $1`,
    [gap],
  );
  simulator.faults.script({ kind: 'answer', status: 410 }, 1, { route: 'sync', connection: over! });
  const { status, stderr } = await runCommand(['sync'], env);
  expect(status).toBe(0);
  const told = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(told.map(({ connection_id: id, msg }) => [id, msg]).sort()).toEqual(
    [
      [gap, 'gap recorded'],
      [over, 'starting over from cursor 0'],
    ].sort(),
  );
});

test('a key that is refused: exit 1, what to do, and no key in the output', async () => {
  const key = 'pa_live_wrong_0123456789';
  const { status, stdout, stderr } = await runCli(['sync'], { ...env, WHATSAPP_USE_API_KEY: key });
  expect(status).toBe(1);
  expect(stderr).toContain('unauthorized');
  expect(stderr).toContain('whatsapp:read');
  expect(stdout + stderr).not.toContain(key);
});

test('a connection that cannot be caught up: the others are, exit 1', async () => {
  const [bad, good] = [...simulator.world.connections.keys()];
  simulator.faults.script({ kind: 'answer', status: 402, body: '{"error":"pay"}' }, 1000, {
    connection: bad!,
  });
  const { status, stdout, stderr } = await runCommand(['sync'], env);
  expect(status).toBe(1);
  expect(stdout).toContain(`${good}: caught up`);
  expect(stdout).toContain(`${bad}: not caught up: payment_required`);
  expect(stderr).toContain('1 of 2 not caught up');
});

test('beside a running daemon, it makes the connections due and waits for it', async () => {
  // Before the end of the hour it is told of that by NOTIFY alone.
  const rare = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '3h' };
  const daemon = startCli(['run'], { ...env, ...rare });
  await daemon.logged('caught up');
  await waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the backlog',
  });
  simulator.world.applyChanges(50);
  const { status, stdout } = await runCommand(['sync'], env);
  // What was fetched, and how fast, the daemon knows.
  const line = (id: string) => `${id}: caught up by the running daemon\n`;
  const ids = [...simulator.world.connections.keys()];
  expect({ status, stdout }).toEqual({ status: 0, stdout: `${ids.map(line).join('')}2/2 connections\n` });
  expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
});

test('a lease of a worker that died: it says for whom it waits, and no more of one that was caught up', async () => {
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  await database.query(
    `update whatsapp.sync_state set lease_owner = 'dead', lease_expires_at = now() + interval '1 hour'`,
  );
  const pass = startCli(['sync'], { ...env, LEASE_TTL: '2h' });
  const says = (line: string) => pass.stderr.includes(`${line}, or`);
  await waitFor(() => says('0/2 connections; waiting for the worker that holds 2'), { what: 'a line' });
  const [one] = simulator.world.connections.keys();
  const catchUp = 'update whatsapp.sync_state set caught_up_at = clock_timestamp() where connection_id = $1';
  const told = async () => {
    // As one that lives would.
    await database.query(catchUp, [one]);
    return says('1/2 connections; waiting for the worker that holds 1');
  };
  await waitFor(told, { what: 'a line that tells of one less' });
  await pass.kill('SIGTERM');
});

describe('beside a daemon that has parked a connection', () => {
  const pay = { kind: 'answer', status: 402 } as const;
  const long = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', BACKOFF_MAX: '1h' };
  const parked = `select from whatsapp.sync_state where last_error_kind = 'payment_required'`;
  let id: string;
  let daemon: Awaited<ReturnType<typeof startWorker>>;
  beforeEach(async () => {
    [id] = [...simulator.world.connections.keys()] as [string];
    await runCommand(['migrate'], env);
    simulator.faults.script(pay, 1, { connection: id, route: 'sync' });
    // It hears no NOTIFY, as with LISTEN_DATABASE_URL=off.
    daemon = await startWorker({ ...env, ...long }, { discovers: false });
    await waitFor(async () => (await database.query(parked)).length > 0, { what: 'it to be parked' });
  });
  afterEach(() => daemon.stop());
  const sync = () => runCommand(['sync', '--connection', id], env);

  test('what hindered it was mended meanwhile: it is caught up', async () => {
    expect(await sync()).toEqual({
      ...{ status: 0, stderr: '' },
      stdout: `${id}: caught up by the running daemon\n1/1 connections\n`,
    });
  });

  test('it is not: what is told is what came of this attempt', async () => {
    simulator.faults.script({ kind: 'answer', status: 403 }, 1, { connection: id, route: 'sync' });
    const { status, stdout } = await sync();
    expect(status).toBe(1);
    expect(stdout).toContain(`${id}: not caught up: unauthorized`);
  });
});

test('resync fetches everything again and writes nothing that is identical', async () => {
  await runCommand(['sync'], env);
  const [id] = [...simulator.world.connections.keys()];
  expect(await runCommand(['resync', '--connection', id!, '--yes'], env)).toMatchObject({ status: 0 });
  const { stdout } = await runCommand(['sync', '--connection', id!], env);
  expect(stdout).toMatch(/, 0 rows written, \d{3,} unchanged/);
  const [state] = await database.query(
    'select epoch, numbering from whatsapp.sync_state where connection_id = $1',
    [id],
  );
  expect(state).toEqual({ epoch: 2, numbering: 1 });
});

test('resync asks first, and knows its connections', async () => {
  await runCommand(['migrate'], env);
  await database.query(`insert into whatsapp.sync_state (connection_id) values ('x')`);
  // A process, whose standard input is no terminal.
  expect(await runCli(['resync', '--connection', 'x'], env)).toMatchObject({ status: 2 });
  const unknown = await runCommand(['resync', '--connection', 'y', '--yes'], env);
  expect(unknown).toMatchObject({ status: 1, stderr: expect.stringContaining('no connection y') });
});
