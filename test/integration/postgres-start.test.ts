import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { run } from '../../src/cli/run.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { prepareSchema } from '../../src/replica/prepare-schema.ts';
import { assemble, type Replica } from '../../src/replica/replica.ts';
import { DaemonProcess } from '../chaos/daemon-process.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { FailingPostgres } from './failing-postgres.ts';

/* What a Postgres may do wrong while the daemon starts: its migration is made again, what it waits for it says. */

const scene = FailingPostgres.use();

test.each<[what: string, change: () => Promise<void>]>([
  [
    'whose server dies',
    async () => {
      await scene.postgres.stop('immediate');
      await scene.postgres.start();
    },
  ],
  [
    'that is frozen for longer than a transaction may stand still',
    async () => {
      const open = `select from pg_stat_activity where datname = '${scene.name}' and state like 'idle in transaction%'`;
      await waitFor(async () => (await scene.admin(open)).length === 0, { what: 'the server to end it' });
    },
  ],
])('a migration %s is made again', async (_, change) => {
  await scene.admin(`alter database ${scene.name} set idle_in_transaction_session_timeout = '500ms'`);
  const env = quickSettings(scene.proxied, scene.simulator.url);
  const migrating = new DaemonProcess(env, { point: 'migrating', nth: 1, signal: 'SIGSTOP' });
  try {
    await waitFor(() => migrating.isFrozen(), { what: 'the daemon to be in its migration' });
    await change();
    migrating.signal('SIGCONT');
    await migrating.logged('schema migrated');
    await scene.agreed('the backlog');
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
    const env = { ...quickSettings(scene.proxied, scene.simulator.url), LEASE_TTL: '1m' };
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
    const client = await scene.connect();
    await client.query('begin; select pg_advisory_xact_lock(3853314791062309107)');
    return client;
  };

  test('under which the server goes away once the schema is up to date waits for it, too', async () => {
    // What is connected goes on; whoever looks for the erasures' key next has no connection yet.
    reached = () => void scene.proxy.refuse();
    onWaiting = () => void scene.proxy.heal();
    expect(await prepare(30_000)).toContain('0001_replica');
    expect(waited).toEqual(['Postgres (ECONNREFUSED)']);
  });

  test('that waits for another’s migration, however long, has its patience with the server left', async () => {
    const other = await migrator();
    // After three seconds.
    onWaiting = (what) => {
      if (!what.startsWith('a lock of session')) return;
      void other.query('rollback');
      scene.proxy.cut();
    };
    expect(await prepare(2_000)).toContain('0001_replica');
    expect(waited).toEqual([expect.stringMatching(/^a lock of session \d+/)]);
  });

  test('that waits for another’s migration ends when it is asked to', async () => {
    const other = await migrator();
    const stopping = new AbortController();
    const start = prepare(30_000, stopping);
    const waits = () => scene.query(`select from pg_locks where locktype = 'advisory' and not granted`);
    await waitFor(async () => (await waits()).length > 0, { what: 'it to wait' });
    stopping.abort(new DOMException('SIGTERM received', 'AbortError'));
    await expect(start).rejects.toMatchObject({ name: 'AbortError' });
    expect(await waits()).toHaveLength(1);
    await other.query('rollback');
  });

  test('that looks for its connections, behind another’s lock, ends when it is asked to', async () => {
    await prepare(30_000);
    const other = await scene.connect();
    await other.query('begin; lock table whatsapp.connections in share mode');
    const stopping = new AbortController();
    const log = createLogger({ level: 'silent', format: 'json', stream: process.stderr });
    const running = run(replica, log, stopping.signal);
    const waits = () =>
      scene.query(`select from pg_locks where relation = 'whatsapp.connections'::regclass and not granted`);
    await waitFor(async () => (await waits()).length > 0, { what: 'it to wait' });
    stopping.abort(new DOMException('SIGTERM received', 'AbortError'));
    await running;
    expect(await waits()).toHaveLength(1);
    await other.query('rollback');
  });
});
