import pg from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { signature } from '../../src/simulator/webhooks.ts';
import { announceDue } from '../../src/store/notify.ts';
import { WakeUp } from '../../src/sync/wake-up.ts';
import type { CliProcess } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { holders, httpOf, useDaemons, workerOf } from '../support/daemons.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const SECRET = 'whsec_test';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let env: Record<string, string>;
const { start, stopAll } = useDaemons(() => env);

afterEach(async () => {
  await stopAll();
  await simulator.close();
});

/** Nothing is polled or renewed within a test, unless the settings say otherwise. */
async function prepare(connections: readonly string[], settings: Record<string, string> = {}): Promise<void> {
  simulator = await startSimulator({ connections, messages: 20 * connections.length });
  env = {
    ...quickSettings(database.url, simulator.url),
    HTTP_PORT: '0',
    WEBHOOK_SECRET: SECRET,
    POLL_INTERVAL: '1h',
    POLL_INTERVAL_IDLE: '1h',
    LEASE_TTL: '1h',
    ...settings,
  };
}

const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const replicated = (deadlineMs?: number) =>
  waitFor(agrees, {
    what: 'the tables to equal the truth',
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
  });
const pollsOf = (id: string) =>
  simulator.stats.recent.filter(({ route, connection }) => route === 'sync' && connection === id).length;

/** Sends a daemon an event of a connection. @returns the status of the answer. */
async function send(daemon: CliProcess, connectionId: string, secret = SECRET): Promise<number> {
  const body = JSON.stringify({
    type: 'whatsapp.message.received',
    connection_id: connectionId,
    payload: {},
  });
  const answer = await fetch(`${await httpOf(daemon)}/webhooks/whatsapp-use`, {
    method: 'POST',
    headers: { 'x-whatsapp-use-signature': signature(secret, Math.floor(Date.now() / 1000), body) },
    body,
  });
  await answer.text();
  return answer.status;
}

/** Two daemons with so many connections each; the second one's are named. */
async function twoDaemons(each: number): Promise<{ first: CliProcess; elsewhere: readonly string[] }> {
  const first = start();
  await replicated();
  const second = start();
  const [one, other] = [await workerOf(first), await workerOf(second)];
  const elsewhere = await waitFor(
    async () => {
      const owners = await holders(database);
      const theirs = owners.get(other);
      return owners.get(one)?.length === each && theirs?.length === each ? theirs : undefined;
    },
    { what: 'a share for each' },
  );
  return { first, elsewhere };
}

describe('a signed event brings the row, however long the poll interval', () => {
  test('on the worker that gets it', async () => {
    await prepare(['conn_a', 'conn_b']);
    const daemon = start();
    await replicated();
    simulator.world.applyChanges(20, 'conn_a');
    expect(await send(daemon, 'conn_a')).toBe(200);
    await replicated();
    expect(pollsOf('conn_b')).toBe(1);
  });

  test('on another worker, by NOTIFY', async () => {
    await prepare(['conn_a', 'conn_b']);
    const { first, elsewhere } = await twoDaemons(1);
    simulator.world.applyChanges(20, elsewhere[0]);
    expect(await send(first, elsewhere[0]!)).toBe(200);
    await replicated();
  });

  test('on another worker without LISTEN, by the next renewal', async () => {
    await prepare(['conn_a', 'conn_b'], { LISTEN_DATABASE_URL: 'off', LEASE_TTL: '1500ms' });
    const { first, elsewhere } = await twoDaemons(1);
    simulator.world.applyChanges(20, elsewhere[0]);
    expect(await send(first, elsewhere[0]!)).toBe(200);
    await replicated();
  });

  test('for the connection without a name, whatever id the event has', async () => {
    await prepare(['conn_a']);
    for (const key of simulator.world.keys.values()) key.meShape = 'none';
    const daemon = start();
    await waitFor(() => pollsOf('conn_a') > 0, { what: 'the first poll' });
    simulator.world.applyChanges(20);
    const before = pollsOf('conn_a');
    expect(await send(daemon, 'conn_a')).toBe(200);
    await waitFor(() => pollsOf('conn_a') > before, { what: 'a poll' });
  });
});

test('an event that is not signed is 401, and wakes nobody', async () => {
  await prepare(['conn_a', 'conn_b']);
  const daemon = start();
  await replicated();
  simulator.world.applyChanges(10);
  for (let n = 0; n < 3; n++) expect(await send(daemon, 'conn_a', 'another')).toBe(401);
  expect(await send(daemon, 'conn_unknown')).toBe(200);
  expect(await send(daemon, 'conn_b')).toBe(200);
  await waitFor(() => pollsOf('conn_b') > 1, { what: 'the poll of the other' });
  expect(pollsOf('conn_a')).toBe(1);
  await daemon.logged('webhook refused');
});

test('a hundred events at once make few polls', async () => {
  await prepare(['conn_a', 'conn_b']);
  const { first, elsewhere } = await twoDaemons(1);
  for (const id of ['conn_a', 'conn_b']) {
    const before = pollsOf(id);
    simulator.world.applyChanges(20, id);
    const began = performance.now();
    const statuses = await Promise.all(Array.from({ length: 100 }, () => send(first, id)));
    expect(new Set(statuses)).toEqual(new Set([200]));
    await replicated();
    const where = elsewhere.includes(id) ? 'elsewhere' : 'here';
    // At most one every 100 ms.
    expect(pollsOf(id) - before, where).toBeLessThanOrEqual(2 + (performance.now() - began) / 100);
  }
});

test('an event during a turn makes the connection due again after it', async () => {
  await prepare(['conn_a']);
  const daemon = start();
  await replicated();
  simulator.world.applyChanges(10);
  simulator.faults.script({ kind: 'slow', delayMs: 2_000 }, 1, { route: 'sync' });
  expect(await send(daemon, 'conn_a')).toBe(200);
  await waitFor(() => simulator.stats.inFlight('conn_a') === 1, { what: 'the request' });
  // The answer was made before; what comes now is not in it.
  simulator.world.applyChanges(10);
  expect(await send(daemon, 'conn_a')).toBe(200);
  expect(simulator.stats.inFlight('conn_a')).toBe(1);
  await replicated();
});

test('an event that is ahead of the sync endpoint: polls follow after 1 s and 5 s', async () => {
  await prepare(['conn_a']);
  const daemon = start();
  await replicated();
  const before = pollsOf('conn_a');
  expect(await send(daemon, 'conn_a')).toBe(200);
  await waitFor(() => pollsOf('conn_a') === before + 1, { what: 'the poll' });
  simulator.world.applyChanges(10);
  await replicated(3_000);
  expect(pollsOf('conn_a')).toBe(before + 2);
  expect(await send(daemon, 'conn_a')).toBe(200);
  await waitFor(() => pollsOf('conn_a') === before + 4, { what: 'the poll and the first one after it' });
  simulator.world.applyChanges(10);
  await replicated(8_000);
  expect(pollsOf('conn_a')).toBe(before + 5);
});

test('a row that a page has locked keeps nobody waiting, and is due once the page is done', async () => {
  await prepare(['conn_a', 'conn_b', 'conn_c', 'conn_d'], {
    LISTEN_DATABASE_URL: 'off',
    LEASE_TTL: '1500ms',
  });
  const { first, elsewhere } = await twoDaemons(2);
  const [locked, free] = elsewhere as [string, string];
  const locker = new pg.Client({ connectionString: database.url });
  await locker.connect();
  try {
    await locker.query('begin');
    await locker.query('select from whatsapp.sync_state where connection_id = $1 for update', [locked]);
    const before = [pollsOf(locked), pollsOf(free)];
    for (const id of [locked, free]) {
      simulator.world.applyChanges(10, id);
      expect(await send(first, id)).toBe(200);
    }
    await waitFor(() => pollsOf(free) > before[1]!, { what: 'the other one to be polled' });
    expect(pollsOf(locked)).toBe(before[0]);
    await locker.query('rollback');
  } finally {
    await locker.end();
  }
  await replicated();
});

test('one that is locked again when the next event comes is come back to again', async () => {
  await prepare(['conn_a']);
  await database.query(`insert into whatsapp.sync_state (connection_id) values ('conn_a')`);
  const wakeUp = new WakeUp(database.db, { wake: () => false });
  const due = async () =>
    (await database.query('select from whatsapp.sync_state where next_poll_at <= now()')).length;
  const locker = new pg.Client({ connectionString: database.url });
  await locker.connect();
  try {
    for (let round = 0; round < 2; round++) {
      await locker.query(`update whatsapp.sync_state set next_poll_at = now() + interval '1 hour'`);
      await locker.query('begin');
      await locker.query('select from whatsapp.sync_state for update');
      await wakeUp.wake(['conn_a']);
      expect(await due()).toBe(0);
      await locker.query('rollback');
      await waitFor(due, { what: 'it to be due' });
    }
  } finally {
    await locker.end();
  }
});

/** A way to the database for LISTEN alone. */
async function listenThrough(): Promise<{ proxy: TcpProxy; url: string }> {
  const url = new URL(database.url);
  const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  return { proxy, url: url.href };
}

test('what was announced before it listened is looked for once it does', async () => {
  const { proxy, url } = await listenThrough();
  try {
    await proxy.refuse();
    await prepare(['conn_a'], { LISTEN_DATABASE_URL: url });
    const daemon = start();
    await replicated();
    await daemon.logged('cannot hear NOTIFY: wake-ups come with the next renewal');
    simulator.world.applyChanges(10);
    // As another process does that is told of an event.
    await new WakeUp(database.db, { wake: () => false }).wake(['conn_a']);
    await proxy.heal();
    await replicated();
  } finally {
    await proxy.close();
  }
});

test('the LISTEN connection is had again when it is lost, and hears again', async () => {
  const { proxy, url } = await listenThrough();
  try {
    await prepare(['conn_a'], { LISTEN_DATABASE_URL: url });
    const daemon = start();
    await replicated();
    const notify = () => database.query(`select pg_notify('wa_replica', '{"due":["conn_a"]}')`);
    const hears = async () => {
      simulator.world.applyChanges(10);
      await waitFor(
        async () => {
          await notify();
          return agrees();
        },
        { what: 'it to hear', everyMs: 200 },
      );
    };
    await hears();
    await proxy.refuse();
    proxy.cut();
    await daemon.logged('cannot hear NOTIFY: wake-ups come with the next renewal');
    simulator.world.applyChanges(10);
    await notify();
    await proxy.heal();
    await hears();
    // What was announced is heard before the probe is back, with which the outage is over.
    await daemon.logged('NOTIFY is heard again');
    proxy.cut();
    await hears();
    const heardAgain = () => daemon.stderr.match(/NOTIFY is heard again/g)?.length === 2;
    await waitFor(heardAgain, { what: 'the second outage to be over' });
    expect(daemon.stderr.match(/cannot hear NOTIFY/g)).toHaveLength(2);
  } finally {
    await proxy.close();
  }
});

test('hints of however many connections are heard, with the longest of ids', async () => {
  const ids = Array.from({ length: 60 }, (_, i) => `${'"'.repeat(1_020)}${i}`);
  await prepare(['conn_a']);
  const heard: string[] = [];
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  client.on('notification', ({ payload }) => heard.push(...JSON.parse(payload!).due));
  await client.query('listen wa_replica');
  await announceDue(database.db, ids);
  await waitFor(async () => heard.length === ids.length, { what: 'the hints' });
  expect(heard).toEqual(ids);
  await client.end();
});

test('a resync begins at once, however long the poll interval', async () => {
  await prepare(['conn_a']);
  start();
  await replicated();
  expect(await runCommand(['resync', '--connection', 'conn_a', '--yes'], env)).toMatchObject({ status: 0 });
  const again = 'select from whatsapp.sync_pages where epoch = 2 and cursor_from = 0';
  await waitFor(async () => (await database.query(again)).length === 1, {
    what: 'the first page of epoch 2',
  });
});
