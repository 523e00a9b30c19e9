import type { Kysely } from 'kysely';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { migrateToLatest } from '../../src/store/migrator.ts';
import type { Database } from '../../src/store/schema.ts';
import { runCommand } from '../support/command.ts';
import { holders, shares, useDaemons, workerOf } from '../support/daemons.ts';
import { createTestDatabase, openTestDatabase, SCHEMA, type TestDatabase } from '../support/database.ts';
import { PGBOUNCER, type Pgbouncer, startPgbouncer, WITHOUT } from '../support/pgbouncer.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

let database: TestDatabase;
let db: Kysely<Database>;
let simulator: Simulator;
let pooler: Pgbouncer;
let env: Record<string, string>;
const { start, stopAll } = useDaemons(() => env);

const agrees = async () => (await differencesFromTruth(db, simulator)).length === 0;
const replicated = () => waitFor(agrees, { what: 'the tables to equal the truth' });
/** Of this database: the server is others' too. */
const advisoryLocks = () =>
  database.query(`select from pg_locks where locktype = 'advisory'
    and database = (select oid from pg_database where datname = current_database())`);
const deaf = 'cannot hear NOTIFY: wake-ups come with the next renewal';

describe.skipIf(PGBOUNCER === undefined)(`through a pgbouncer in transaction mode${WITHOUT}`, () => {
  beforeEach(async () => {
    database = await createTestDatabase();
    db = openTestDatabase(database.url);
    // Far fewer connections than the daemons open: they must share them all the time.
    pooler = await startPgbouncer(database.url, 3);
    simulator = await startSimulator({ connections: 4, messages: 2_000 });
    env = { ...quickSettings(pooler.url, simulator.url), PAGE_LIMIT: '50' };
  });
  afterEach(async () => {
    await stopAll();
    await simulator.close();
    await pooler.stop();
    await db.destroy();
    await database.drop();
  });

  test('several migrate at once, share, are killed and taken over, and nothing breaks', async () => {
    env.LEASE_TTL = '2s';
    const daemons = [start(), start()];
    await waitFor(async () => JSON.stringify(await shares(database)) === '[2,2]', {
      what: 'equal shares',
    });
    await daemons[0]!.kill('SIGKILL');
    simulator.world.applyChanges(300);
    const survivor = await workerOf(daemons[1]!);
    await waitFor(async () => (await holders(database)).get(survivor)?.length === 4, {
      what: 'the takeover',
      deadlineMs: 2_000 + 2_000,
    });
    await replicated();
    start();
    await waitFor(async () => JSON.stringify(await shares(database)) === '[2,2]', {
      what: 'equal shares',
    });
    simulator.world.applyChanges(300);
    await replicated();
    const migrations = daemons.filter((one) => one.stderr.includes('schema migrated'));
    expect(migrations).toHaveLength(1);
    expect(daemons[1]!.stderr).not.toContain('"level":"error"');
    expect(await daemons[1]!.kill('SIGTERM')).toBe(0);
  });

  test('of many that migrate at once one does, whichever connections the pooler gives them', async () => {
    const migrated = Array.from({ length: 8 }, () => migrateToLatest(pooler.url, SCHEMA));
    expect(await Promise.allSettled(migrated)).toEqual(migrated.map(() => ({ status: 'fulfilled' })));
    expect(await advisoryLocks()).toEqual([]);
  });

  test('the change feed is read through it, by several readers that die, beside the daemons that write', async () => {
    const daemons = [start(), start()];
    await daemons[0]!.logged('replicating');
    const readers = new pg.Pool({ connectionString: pooler.url, max: 3 });
    const held = new Set<string>();
    const had = new Set<string>();
    const twice: string[] = [];
    let writing = true;
    const finished = async () => {
      const behind =
        await database.query(`select from whatsapp.sync_state s left join whatsapp.change_positions p
        on p.connection_id = s.connection_id and p.consumer = 'crm' where s.last_change_no > coalesce(p.change_no, 0)`);
      return !writing && behind.length === 0;
    };
    const read = async (client: pg.PoolClient, dies: boolean) => {
      const { rows } = await client.query<{ connection_id: string; change_no: string }>(
        `select connection_id, change_no from whatsapp.read_changes('crm', 100, $1)`,
        [dies ? '30 milliseconds' : '1 minute'],
      );
      if (dies) return rows.length;
      const names = rows.map((row) => `${row.connection_id} ${row.change_no}`);
      twice.push(...names.filter((name) => held.has(name)));
      for (const name of names) held.add(name);
      const done = Object.fromEntries(rows.map((row) => [row.connection_id, row.change_no]));
      await client.query(`select whatsapp.ack_changes('crm', $1)`, [JSON.stringify(done)]);
      for (const name of names) {
        held.delete(name);
        had.add(name);
      }
      return rows.length;
    };
    const reader = async (place: number) => {
      for (let reads = place; ; reads++) {
        const dies = reads % 5 === 0;
        const client = await readers.connect();
        try {
          // In one transaction, and not: then the pooler may give each statement another connection.
          const together = reads % 2 === 0;
          if (together) await client.query('begin');
          const count = await read(client, dies);
          if (together) await client.query(dies ? 'rollback' : 'commit');
          if (count === 0 && (await finished())) return;
        } finally {
          client.release();
        }
      }
    };
    const write = async () => {
      await replicated();
      simulator.world.applyChanges(300);
      await replicated();
      for (const daemon of daemons) expect(await daemon.kill('SIGTERM'), daemon.stderr).toBe(0);
    };
    try {
      await Promise.all([write().finally(() => (writing = false)), ...[0, 1, 2].map(reader)]);
    } finally {
      await readers.end();
    }
    expect(twice).toEqual([]);
    const told = await database.query<{ id: string; last: number }>(
      'select connection_id as id, last_change_no::integer as last from whatsapp.sync_state',
    );
    const all = told.flatMap(({ id, last }) => Array.from({ length: last }, (_, at) => `${id} ${at + 1}`));
    expect(all.length).toBeGreaterThan(2_000);
    expect(all.filter((name) => !had.has(name))).toEqual([]);
    expect(had.size).toBe(all.length);
  });

  test('no session keeps anything that a page or a migration has set', async () => {
    const daemon = start();
    await replicated();
    await daemon.kill('SIGTERM');
    const through = new pg.Pool({ connectionString: pooler.url, max: 20 });
    try {
      const settings = `select current_setting('statement_timeout') as statement,
        current_setting('idle_in_transaction_session_timeout') as idle, current_setting('search_path') as path`;
      // Asked often and at once, it goes through every one of the pooler's connections.
      const looks = await Promise.all(Array.from({ length: 40 }, () => through.query(settings)));
      for (const { rows } of looks) {
        expect(rows).toEqual([{ statement: '0', idle: '0', path: '"$user", public' }]);
      }
    } finally {
      await through.end();
    }
    expect(await advisoryLocks()).toEqual([]);
    const open = `select from pg_stat_activity where datname = current_database() and state like 'idle in%'`;
    expect(await database.query(open)).toEqual([]);
  });

  test('LISTEN hears nothing there: that is told once, and renewals bring the wake-ups', async () => {
    env = { ...env, POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '1500ms' };
    const daemon = start();
    await replicated();
    await daemon.logged(deaf);
    expect(daemon.stderr).toContain('set LISTEN_DATABASE_URL or off');
    simulator.world.applyChanges(100);
    // A sync beside it makes its connections due.
    const { status } = await runCommand(['sync'], env);
    expect(status).toBe(0);
    expect(await agrees()).toBe(true);
    expect(daemon.stderr.split(deaf)).toHaveLength(2);
  });

  test('with LISTEN_DATABASE_URL past it, NOTIFY is heard at once', async () => {
    env = {
      ...env,
      LISTEN_DATABASE_URL: database.url,
      POLL_INTERVAL: '1h',
      POLL_INTERVAL_IDLE: '1h',
      LEASE_TTL: '1h',
    };
    const daemon = start();
    await replicated();
    simulator.world.applyChanges(100);
    const due = JSON.stringify({ due: [...simulator.world.connections.keys()] });
    await waitFor(
      async () => {
        await database.query("select pg_notify('wa_replica', $1)", [due]);
        return await agrees();
      },
      { what: 'the wake-up', everyMs: 300 },
    );
    expect(daemon.stderr).not.toContain(deaf);
  });
});
