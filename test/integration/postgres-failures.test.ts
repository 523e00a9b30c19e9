import type { Kysely } from 'kysely';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { run } from '../../src/cli/run.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { assemble, prepareSchema, type Replica } from '../../src/replica.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import { DaemonProcess } from '../chaos/daemon-process.ts';
import { type CliProcess, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { openTestDatabase } from '../support/database.ts';
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

/* What a Postgres may do wrong: the daemon stays up, says so without flooding the log, and goes on by itself. */

const SHUTDOWN_TIMEOUT = 2_000;
const MAX_CONNECTIONS = 30;

let postgres: OwnPostgres;
let proxy: TcpProxy;
let simulator: Simulator;
let name: string;
let db: Kysely<Database>;
let daemon: CliProcess;
const clients: pg.Client[] = [];

beforeAll(async () => {
  postgres = await startOwnPostgres({ max_connections: String(MAX_CONNECTIONS) });
});
afterAll(() => postgres.destroy());

/** Ends what ails the server, where something does. */
let heal = async () => {};

let databases = 0;
beforeEach(async () => {
  name = `failures_${++databases}`;
  await admin(`create database ${name}`);
  proxy = await startTcpProxy({ host: '127.0.0.1', port: postgres.port });
  simulator = await startSimulator({ messages: 200, connections: 1 });
  db = openTestDatabase(urlOf(name));
});
afterEach(async () => {
  await daemon?.kill('SIGKILL');
  await heal();
  await Promise.all(clients.splice(0).map((client) => client.end()));
  await db.destroy();
  await proxy.close();
  await simulator.close();
});

function urlOf(database: string, port = postgres.port): string {
  return Object.assign(new URL(postgres.url), { pathname: `/${database}`, port: String(port) }).href;
}

/** Opens a connection past the proxy, until the end of the test or of what ails the server. */
async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: urlOf(name) });
  client.on('error', () => {});
  await client.connect();
  clients.push(client);
  return client;
}

/** One statement on a connection of its own, past the proxy. */
async function query<T extends pg.QueryResultRow>(sql: string, database = name): Promise<T[]> {
  const client = new pg.Client({ connectionString: urlOf(database) });
  await client.connect();
  return await client
    .query<T>(sql)
    .then(({ rows }) => rows)
    .finally(() => client.end());
}

/** A statement from outside the database at hand. */
const admin = (sql: string) => query(sql, 'wa_replica');

/** Ends the daemon's connections, so that it has to begin others. */
const disconnect = () =>
  admin(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = '${name}' and application_name like 'wa-replica %' and application_name not like '%test'`);

const agreed = (what: string) =>
  waitFor(async () => (await differencesFromTruth(db, simulator)).length === 0, { what, deadlineMs: 20_000 });

async function startDaemon(more: Record<string, string> = {}): Promise<void> {
  daemon = startCli(['run'], {
    ...quickSettings(urlOf(name, proxy.port), simulator.url),
    // Time-outs of statements follow from it.
    LEASE_TTL: '1s',
    SHUTDOWN_TIMEOUT: `${SHUTDOWN_TIMEOUT}ms`,
    // What it would hear of is no part of this, and it would have connections of its own.
    LISTEN_DATABASE_URL: 'off',
    ...more,
  });
  await agreed('the backlog');
}

interface Line {
  readonly level: string;
  readonly msg: string;
  readonly error?: string;
  readonly failures?: number;
}

const lines = () =>
  daemon.stderr
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);

async function expectOrderlyEnd(): Promise<void> {
  const startedAt = performance.now();
  expect(await daemon.kill('SIGTERM')).toBe(0);
  const took = performance.now() - startedAt;
  // 1.7 s where something hangs; the rest is for a busy machine.
  expect(took).toBeLessThan(SHUTDOWN_TIMEOUT + 250);
}

interface Condition {
  readonly what: string;
  /** In the log while it lasts. */
  readonly says: RegExp;
  /** Failures in a row that are waited for. */
  readonly failures: number;
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
  /** What else holds while it lasts. */
  meanwhile?(): Promise<void>;
}

/** Lets every write of a message fail with an error of this code. */
const failing = (code: string, when = 'true') =>
  query(`
    create or replace function whatsapp.fail() returns trigger language plpgsql as
      $$ begin if ${when} then raise exception 'no' using errcode = '${code}'; end if; return new; end $$;
    create trigger fail before insert or update on whatsapp.messages for each row execute function whatsapp.fail()`);
const unfailing = () => query('drop trigger fail on whatsapp.messages');

async function lock(table: string): Promise<void> {
  const client = await connect();
  await client.query(`begin; lock table whatsapp.${table} in access exclusive mode`);
}
const unlock = async () => {
  await Promise.all(clients.splice(0).map((client) => client.end()));
};

const CONDITIONS: Condition[] = [
  {
    what: 'stops and is started again',
    // 57P03 while it starts; the proxy takes connections and ends them.
    says: /57P0|ECONN|NO_CONNECTION/,
    failures: 8,
    begin: () => postgres.stop(),
    end: () => postgres.start(),
  },
  {
    what: 'is read-only for a while, as a standby is',
    says: /25006/,
    failures: 8,
    async begin() {
      await admin(`alter database ${name} set default_transaction_read_only = on`);
      await disconnect();
    },
    // Sessions keep what they began with, as those to a server that has become a standby do.
    end: () => admin(`alter database ${name} reset default_transaction_read_only`),
  },
  {
    what: 'has its messages locked by somebody',
    says: /57014/,
    failures: 2,
    begin: () => lock('messages'),
    end: unlock,
  },
  {
    what: 'has the state locked by somebody',
    says: /ETIMEDOUT/,
    failures: 2,
    begin: () => lock('sync_state'),
    end: unlock,
    // Each attempt begins a new session, and the one before must not wait on: a failure that is noted, a look at the
    // lease, a renewal.
    async meanwhile() {
      const waiting = await query("select from pg_stat_activity where wait_event_type = 'Lock'");
      expect(waiting.length).toBeLessThanOrEqual(3);
    },
  },
  {
    what: 'has a lock_timeout, and a lock',
    says: /55P03/,
    failures: 4,
    async begin() {
      await admin(`alter database ${name} set lock_timeout = '50ms'`);
      await disconnect();
      await lock('messages');
    },
    end: unlock,
  },
  {
    what: 'has no connection left',
    says: /53300/,
    failures: 8,
    async begin() {
      await proxy.refuse();
      proxy.cut();
      await waitFor(
        () =>
          connect().then(
            () => false,
            () => true,
          ),
        { what: 'no connection to be left', everyMs: 0 },
      );
      await proxy.heal();
    },
    end: unlock,
  },
  {
    what: 'answers nothing any more',
    says: /ETIMEDOUT/,
    failures: 1,
    begin: async () => proxy.blackhole(),
    end: () => proxy.heal(),
  },
  ...['53100', '40001', '40P01', 'XX000', '23505'].map((code) => ({
    what: `fails with ${code}`,
    says: new RegExp(code),
    failures: 8,
    begin: () => failing(code),
    end: unfailing,
  })),
];

async function ail({ begin, end }: Condition): Promise<void> {
  heal = async () => {
    heal = async () => {};
    await end();
  };
  await begin();
  simulator.world.applyChanges(50);
}

/** Begins a condition and waits until it has done its harm; gives what was logged since then. */
async function failed(condition: Condition): Promise<() => Line[]> {
  const { failures, says } = condition;
  const before = lines().length;
  await ail(condition);
  const since = () => lines().slice(before);
  const enough = () =>
    since().some((line) => (line.failures ?? 0) >= failures && says.test(line.error ?? ''));
  await waitFor(enough, { what: `${failures} failures with ${says}`, deadlineMs: 20_000 }).catch((cause) => {
    throw new Error(`it says no such thing:\n${daemon.stderr}`, { cause });
  });
  return since;
}

describe.each(CONDITIONS)('a server that $what', (condition) => {
  const { failures } = condition;
  test('is waited out, without a flood of log lines, and a shutdown under it ends in time', async () => {
    await startDaemon();
    const [state] = await query('select epoch from whatsapp.sync_state');
    const since = await failed(condition);
    const told = since();
    await condition.meanwhile?.();
    await heal();
    await agreed('the daemon to go on by itself');
    // Each of the two that fail (the loop, the leases) tells once, then at every doubling, and never more quietly.
    for (const msg of ['turn failed', 'cannot renew leases']) {
      const own = told.filter((line) => line.msg === msg);
      const most = Math.max(1, ...own.map((line) => line.failures ?? 0));
      expect(own.length, daemon.stderr).toBeLessThanOrEqual(2 + Math.log2(most));
      const levels = own.map(({ level }) => ['info', 'warn', 'error'].indexOf(level));
      expect(levels, daemon.stderr).toEqual([...levels].sort());
    }
    const others = told.filter(({ msg }) => !['turn failed', 'cannot renew leases'].includes(msg));
    expect(others.length, daemon.stderr).toBeLessThanOrEqual(4);
    expect(await query('select from whatsapp.quarantine')).toEqual([]);
    expect(await query('select epoch from whatsapp.sync_state')).toEqual([{ epoch: state!.epoch }]);
    const gaps = await query(`select from (select cursor_from,
        lag(cursor_to) over (order by page_id) as before from whatsapp.sync_pages) p where before <> cursor_from`);
    expect(gaps).toEqual([]);
    // Once more, for the end; what harms slowly is met on its first way.
    await (failures >= 4 ? failed({ ...condition, failures: 1 }) : ail(condition));
    await expectOrderlyEnd();
  }, 60_000);
});

test('what goes on beside the loops, and hangs, has no time of its own at the end', async () => {
  expect(await runCommand(['migrate'], { DATABASE_URL: urlOf(name) })).toMatchObject({ status: 0 });
  await query('drop index whatsapp.messages_by_person');
  // An open write keeps the builder of an index waiting.
  const writer = await connect();
  await writer.query(`begin; insert into whatsapp.messages (connection_id, message_id) values ('c', 'open')`);
  await startDaemon();
  const building = () => query(`select from pg_stat_progress_create_index where datname = '${name}'`);
  await waitFor(async () => (await building()).length > 0, { what: 'an index to be built' });
  proxy.blackhole();
  await expectOrderlyEnd();
});

test.each<[what: string, change: () => Promise<void>]>([
  [
    'whose server dies',
    async () => {
      await postgres.stop('immediate');
      await postgres.start();
    },
  ],
  [
    'that is frozen for longer than a transaction may stand still',
    async () => {
      const open = `select from pg_stat_activity where datname = '${name}' and state like 'idle in transaction%'`;
      await waitFor(async () => (await admin(open)).length === 0, { what: 'the server to end it' });
    },
  ],
])('a migration %s is made again', async (_, change) => {
  await admin(`alter database ${name} set idle_in_transaction_session_timeout = '500ms'`);
  const env = quickSettings(urlOf(name, proxy.port), simulator.url);
  const migrating = new DaemonProcess(env, { point: 'migrating', nth: 1, signal: 'SIGSTOP' });
  try {
    await waitFor(() => migrating.isFrozen(), { what: 'the daemon to be in its migration' });
    await change();
    migrating.signal('SIGCONT');
    await migrating.logged('schema migrated');
    await agreed('the backlog');
    expect(await migrating.kill('SIGTERM')).toBe(0);
  } finally {
    await migrating.kill('SIGKILL');
  }
});

describe('a start', () => {
  let replica: Replica;
  /** What it said it waits for. */
  let waited: string[];
  let onWaiting: (what: string) => void;
  let reached: () => void;
  beforeEach(() => {
    // What it waits for must not end by itself, because nothing comes.
    const env = { ...quickSettings(urlOf(name, proxy.port), simulator.url), LEASE_TTL: '1m' };
    const { settings } = loadSettings(env, { database: true, upstream: true });
    waited = [];
    onWaiting = reached = () => {};
    const wiring = { settings, env, listen: () => {}, onIdleError: () => {}, reached: () => reached() };
    replica = assemble(wiring);
  });
  afterEach(() => replica.close());

  const prepare = (patience: number, { signal } = new AbortController()) =>
    prepareSchema(
      replica,
      {
        ...{ migrate: true, patience },
        onWaiting(what) {
          waited.push(what);
          onWaiting(what);
        },
      },
      signal,
    );
  /** Is at a migration, until it ends. */
  const migrator = async () => {
    const client = await connect();
    await client.query('begin; select pg_advisory_xact_lock(3853314791062309107)');
    return client;
  };

  test('under which the server goes away once the schema is up to date waits for it, too', async () => {
    // What is connected goes on; whoever looks for the erasures' key next has no connection yet.
    reached = () => void proxy.refuse();
    onWaiting = () => void proxy.heal();
    expect(await prepare(30_000)).toContain('0001_replica');
    expect(waited).toEqual(['Postgres (ECONNREFUSED)']);
  });

  test('that waits for another’s migration, however long, has its patience with the server left', async () => {
    const other = await migrator();
    // After three seconds.
    onWaiting = (what) => {
      if (what !== 'another migration') return;
      void other.query('rollback');
      proxy.cut();
    };
    expect(await prepare(2_000)).toContain('0001_replica');
    expect(waited).toEqual(['another migration']);
  });

  test('that waits for another’s migration ends when it is asked to', async () => {
    const other = await migrator();
    const stopping = new AbortController();
    const start = prepare(30_000, stopping);
    const waits = () => query(`select from pg_locks where locktype = 'advisory' and not granted`);
    await waitFor(async () => (await waits()).length > 0, { what: 'it to wait' });
    stopping.abort(new DOMException('SIGTERM received', 'AbortError'));
    await expect(start).rejects.toMatchObject({ name: 'AbortError' });
    expect(await waits()).toHaveLength(1);
    await other.query('rollback');
  });

  test('that looks for its connections, behind another’s lock, ends when it is asked to', async () => {
    await prepare(30_000);
    const other = await connect();
    await other.query('begin; lock table whatsapp.connections in share mode');
    const stopping = new AbortController();
    const log = createLogger({ level: 'silent', format: 'json', stream: process.stderr });
    const running = run(replica, log, stopping.signal);
    const waits = () =>
      query(`select from pg_locks where relation = 'whatsapp.connections'::regclass and not granted`);
    await waitFor(async () => (await waits()).length > 0, { what: 'it to wait' });
    stopping.abort(new DOMException('SIGTERM received', 'AbortError'));
    await running;
    expect(await waits()).toHaveLength(1);
    await other.query('rollback');
  });
});

test.each(['22P05', '54000'])('a row that Postgres refuses with %s is quarantined alone', async (code) => {
  await startDaemon();
  const connection = [...simulator.world.connections.values()][0]!;
  const bad = connection.messages[3]!;
  await failing(code, `new.message_id = '${connection.messageId(bad.index)}'`);
  for (const message of connection.messages.slice(0, 40)) connection.editMessage(message, 'edited');
  const edited = () => query("select from whatsapp.messages where body = 'edited'");
  await waitFor(async () => (await edited()).length === 39, { what: 'the others to be written' });
  const entries = await query(
    'select kind, record_id, error_code from whatsapp.quarantine where resolved_at is null',
  );
  expect(entries).toEqual([
    { kind: 'message', record_id: connection.messageId(bad.index), error_code: code },
  ]);
  // A newer version that passes takes its place, and the entry is done with.
  await unfailing();
  connection.editMessage(bad, 'edited again');
  await agreed('the good version');
  expect(await query('select resolution from whatsapp.quarantine')).toEqual([{ resolution: 'superseded' }]);
  await expectOrderlyEnd();
});

test('an answer to COMMIT that is lost: the page is not written twice', async () => {
  await startDaemon({ LEASE_TTL: '3s' });
  // Long enough to be seen, and below the time-out of statements.
  await query(`
    create function whatsapp.dawdle() returns trigger language plpgsql as
      $$ begin perform pg_sleep(1.2); return null; end $$;
    create constraint trigger dawdle after insert on whatsapp.sync_pages deferrable initially deferred
      for each row execute function whatsapp.dawdle()`);
  const [{ pages } = { pages: 0 }] = await query(
    'select count(*)::integer as pages from whatsapp.sync_pages',
  );
  simulator.world.applyChanges(5);
  const committing = () =>
    query(`select from pg_stat_activity where datname = '${name}' and query = 'commit' and state = 'active'`);
  await waitFor(async () => (await committing()).length > 0, { what: 'the commit to begin' });
  proxy.cut();
  await agreed('the page');
  await daemon.logged('recovered');
  expect(await query('select count(*)::integer as pages from whatsapp.sync_pages')).toEqual([
    { pages: pages + 1 },
  ]);
  await expectOrderlyEnd();
});
