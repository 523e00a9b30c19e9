import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { holders, shares, useDaemons, workerOf } from '../support/daemons.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let env: Record<string, string>;
const { start, stopAll } = useDaemons(() => env);

async function prepare(connections: number, settings: Record<string, string>): Promise<void> {
  simulator = await startSimulator({ connections, messages: 20 * connections });
  env = { ...quickSettings(database.url, simulator.url), ...settings };
}

afterEach(async () => {
  await stopAll();
  await simulator.close();
});

const balanced = (expected: readonly number[], deadlineMs = 30_000) =>
  waitFor(async () => JSON.stringify(await shares(database)) === JSON.stringify(expected), {
    what: `the shares ${expected}`,
    deadlineMs,
  });
const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const terms = () =>
  database.query<{ connection_id: string; lease_owner: string; lease_term: string }>(
    'select connection_id, lease_owner, lease_term from whatsapp.sync_state order by 1',
  );

/** Waits until every worker has renewed its leases so many times. */
async function renewals(times: number, leaseTtl: number): Promise<void> {
  const since = await database.query<{ at: string }>('select clock_timestamp()::text as at');
  await waitFor(
    async () =>
      (
        await database.query(
          `select from whatsapp.workers having count(*) > 0
            and min(heartbeat_at) > $1::timestamptz + make_interval(secs => $2)`,
          [since[0]!.at, (times * leaseTtl) / 3_000],
        )
      ).length > 0,
    { what: `${times} renewals`, deadlineMs: 45_000 + times * leaseTtl },
  );
}

test('each holds an equal share, soon after a worker joins, stops or dies', async () => {
  const leaseTtl = 2_000;
  await prepare(7, { LEASE_TTL: `${leaseTtl}ms`, POLL_INTERVAL: '200ms' });
  start();
  await balanced([7]);
  const second = start();
  await balanced([4, 3]);
  const third = start();
  await waitFor(
    async () => {
      const held = await shares(database);
      return held.length === 3 && held[0]! <= 3 && held.reduce((a, b) => a + b) === 7;
    },
    { what: 'three shares of at most 3' },
  );
  await third.kill('SIGTERM');
  await balanced([4, 3], leaseTtl + 2_000);
  const owner = await workerOf(second);
  const killed = performance.now();
  await second.kill('SIGKILL');
  await balanced([7], leaseTtl + 2_000);
  expect(performance.now() - killed).toBeLessThan(leaseTtl + 2_000);
  expect([...(await holders(database)).keys()]).not.toContain(owner);
  simulator.world.applyChanges(100);
  await waitFor(agrees, { what: 'the tables to equal the truth' });
});

test('once balanced, nothing moves', async () => {
  // A daemon that a busy machine holds up for as long loses its leases, rightly.
  const leaseTtl = 3_000;
  await prepare(5, { LEASE_TTL: `${leaseTtl}ms` });
  start();
  start();
  await balanced([3, 2]);
  // Whoever joined while the other was claiming may still have to give.
  await renewals(2, leaseTtl);
  const before = await terms();
  simulator.world.applyChanges(100);
  await renewals(8, leaseTtl);
  expect(await terms()).toEqual(before);
});

test('a sync beside daemons takes no share, and nothing moves for it', async () => {
  const leaseTtl = 3_000;
  await prepare(4, { LEASE_TTL: `${leaseTtl}ms`, POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' });
  start();
  start();
  await balanced([2, 2]);
  await renewals(2, leaseTtl);
  const before = await terms();
  simulator.world.applyChanges(60);
  const { status, stdout } = await runCommand(['sync'], env);
  expect([status, stdout]).toEqual([0, expect.stringContaining('caught up')]);
  expect(await agrees()).toBe(true);
  expect(await terms()).toEqual(before);
  expect(await database.query('select from whatsapp.workers')).toHaveLength(2);
});

describe('at SIGTERM', () => {
  test('the others take over at once, however long leases last', async () => {
    await prepare(6, { LEASE_TTL: '1h', POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' });
    start();
    await balanced([6]);
    const second = start();
    await balanced([3, 3]);
    await second.kill('SIGTERM');
    await balanced([6]);
  });

  test('a page that takes long keeps back its own connection only', async () => {
    await prepare(4, { LEASE_TTL: '1h', POLL_INTERVAL: '100ms', SHUTDOWN_TIMEOUT: '1m' });
    start();
    await balanced([4]);
    const second = start();
    await balanced([2, 2]);
    const mine = (await holders(database)).get(await workerOf(second))!;
    const locker = new pg.Client({ connectionString: database.url });
    await locker.connect();
    try {
      await locker.query('begin');
      await locker.query('select from whatsapp.sync_state where connection_id = $1 for update', [mine[0]]);
      simulator.world.applyChanges(5, mine[0]);
      await waitFor(
        async () =>
          (
            await database.query(
              `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                and application_name = 'wa-replica pages'`,
            )
          ).length > 0,
        { what: 'a page that waits for the lock' },
      );
      second.process.kill('SIGTERM');
      await balanced([3, 1]);
    } finally {
      await locker.end();
    }
    expect(await second.ended).toBe(0);
    await balanced([4]);
  });
});

describe('a worker that is frozen', () => {
  test('past its leases has lost them, and gets its share again when it goes on', async () => {
    const settings = { LEASE_TTL: '1s', POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' };
    await prepare(6, settings);
    const first = start();
    await balanced([6]);
    // Its loops rest then, for an hour.
    await waitFor(agrees, { what: 'the tables to equal the truth' });
    first.process.kill('SIGSTOP');
    const second = await workerOf(start());
    const taken = async () => (await holders(database)).get(second)?.length === 6;
    await waitFor(taken, { what: 'the takeover' });
    first.process.kill('SIGCONT');
    await balanced([3, 3]);
    simulator.world.applyChanges(60);
    await runCommand(['sync'], env);
    expect(await agrees()).toBe(true);
  });

  test('in mid-transaction holds its connection no longer than a dead one', async () => {
    const leaseTtl = 2_000;
    await prepare(1, { LEASE_TTL: `${leaseTtl}ms` });
    const first = start();
    await balanced([1]);
    start();
    const both = () => database.query('select from whatsapp.workers');
    await waitFor(async () => (await both()).length === 2, { what: 'the second one' });
    await waitFor(agrees, { what: 'the tables to equal the truth' });
    const pages = (where: string) =>
      database.query<{ pid: number }>(
        `select pid from pg_stat_activity where application_name = 'wa-replica pages' and datname = current_database() and ${where}`,
      );
    const frozen = await workerOf(first);
    const locker = new pg.Client({ connectionString: database.url });
    await locker.connect();
    await locker.query('begin');
    await locker.query('lock table whatsapp.messages in share row exclusive mode');
    simulator.world.applyChanges(30);
    await waitFor(async () => (await pages("wait_event_type = 'Lock'")).length, {
      what: 'a page that waits',
    });
    first.process.kill('SIGSTOP');
    const frozenAt = performance.now();
    await locker.query('commit');
    await locker.end();
    const idle = "state = 'idle in transaction'";
    await waitFor(async () => (await pages(idle)).length, { what: 'the frozen page' });
    const takenOver = async () => {
      const owners = await holders(database);
      return !owners.has(frozen) && !owners.has('');
    };
    await waitFor(takenOver, { what: 'the takeover' });
    expect(performance.now() - frozenAt).toBeLessThan(leaseTtl + 2_000);
    await waitFor(agrees, { what: 'the tables to equal the truth' });
    first.process.kill('SIGCONT');
    simulator.world.applyChanges(30);
    await waitFor(agrees, { what: 'the tables to equal the truth' });
    expect(await database.query('select from whatsapp.sync_pages where cursor_from = cursor_to')).toEqual([]);
  });
});

test('a connection that is removed is dropped by whoever holds it', async () => {
  await prepare(4, { DISCOVERY_INTERVAL: '300ms' });
  start();
  start();
  await balanced([2, 2]);
  const [gone, ...rest] = [...simulator.world.connections.keys()];
  simulator.world.keys.get(DEFAULT_API_KEY)!.connectionIds = rest;
  await balanced([2, 1]);
  expect((await holders(database)).get('')).toEqual([gone]);
  const removed = 'select connection_id from whatsapp.connections where removed_at is not null';
  expect(await database.query(removed)).toEqual([{ connection_id: gone }]);
});
