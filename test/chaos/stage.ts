import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import pg from 'pg';
import { mix } from '../../src/simulator/random.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import { openTestDatabase } from '../support/database.ts';
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';
import { DaemonProcess, type Trap } from './daemon-process.ts';
import type { Plan, PostgresDeath } from './plan.ts';

/** The lease of every daemon here, in milliseconds: the shortest that there may be. */
export const LEASE_TTL = 1_000;

/** A Postgres that may die, for one scenario after another. */
export interface Server {
  readonly postgres: OwnPostgres;
  /** Makes an empty database and gives its URL. */
  createDatabase(): Promise<string>;
  destroy(): Promise<void>;
}

export async function startServer(): Promise<Server> {
  const postgres = await startOwnPostgres({ max_connections: '100', shared_buffers: '32MB' });
  let databases = 0;
  return {
    postgres,
    async createDatabase() {
      const name = `chaos_${++databases}`;
      const client = new pg.Client({ connectionString: postgres.url });
      await client.connect();
      await client.query(`create database ${name}`).finally(() => client.end());
      return withParts(postgres.url, { pathname: `/${name}` });
    },
    destroy: () => postgres.destroy(),
  };
}

/** A world, a database, and the ways between them that may be cut. */
export interface Stage {
  readonly postgres: OwnPostgres;
  readonly simulator: Simulator;
  /** Not through the proxy. */
  readonly db: Kysely<Database>;
  readonly proxy: TcpProxy;
  start(limit: number, trap?: Trap): DaemonProcess;
  /** Lets the next answers of each connection come from a copy that lags behind the cursor sent. */
  lag(times: number): void;
  /** Kills Postgres and starts it again. */
  killPostgres(how: PostgresDeath, down: number): Promise<void>;
  /** The pages that a worker has committed; 0 while Postgres is away. */
  pagesOf(daemon: DaemonProcess): Promise<number>;
  /** Lets the world rest, mends the ways to it, and waits for Postgres. */
  calm(): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(server: Server, plan: Plan): Promise<Stage> {
  const { postgres } = server;
  const url = await server.createDatabase();
  const { connections, messages, seed, faultRate } = plan;
  const simulator = await startSimulator({ connections, messages, seed, faults: faultRate });
  simulator.faults.slowMs = 100;
  simulator.faults.trickleMs = 200;
  if (plan.disorderly) {
    for (const { sync } of simulator.world.connections.values())
      Object.assign(sync, { shuffle: true, repeat: 0.1 });
  }
  const traffic = simulator.startTraffic({ changesPerSecond: plan.changesPerSecond, seed: mix(seed, 5) });
  const proxy = await startTcpProxy({ host: '127.0.0.1', port: postgres.port });
  const db = openTestDatabase(
    withParts(url, { search: '?sslmode=disable&options=-c%20search_path%3Dwhatsapp' }),
  );
  const env = {
    ...quickSettings(withParts(url, { port: String(proxy.port) }), simulator.url),
    LEASE_TTL: `${LEASE_TTL}ms`,
    REQUEST_TIMEOUT: '700ms',
  };
  const lag = (times: number) => {
    for (const { sync } of simulator.world.connections.values()) sync.stale = { times, by: 20n };
  };
  return {
    postgres,
    simulator,
    db,
    proxy,
    start(limit, trap) {
      const size = String(limit);
      return new DaemonProcess({ ...env, PAGE_LIMIT: size, PAGE_LIMIT_MAX: size }, trap);
    },
    lag,
    async killPostgres(how, down) {
      if (how === 'SIGKILL') await postgres.kill();
      else await postgres.stop(how);
      await sleep(down);
      await postgres.start();
    },
    async pagesOf({ worker }) {
      if (worker === undefined) return 0;
      const { rows } = await sql<{ n: number }>`
        select count(*)::integer as n from whatsapp.sync_pages where worker = ${worker}`
        .execute(db)
        .catch(() => ({ rows: [] }));
      return rows[0]?.n ?? 0;
    },
    async calm() {
      traffic.stop();
      simulator.faults.clear();
      lag(0);
      await proxy.heal();
      await waitFor(() => sql`select 1`.execute(db), { what: 'Postgres' });
    },
    async close() {
      await db.destroy();
      await proxy.close();
      await simulator.close();
    },
  };
}

function withParts(url: string, parts: Partial<Pick<URL, 'pathname' | 'port' | 'search'>>): string {
  return Object.assign(new URL(url), parts).href;
}
