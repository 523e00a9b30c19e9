import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { steadyPort } from './steady-port.ts';
import { waitFor } from './wait.ts';

/** A pgbouncer in transaction mode before a database. */
export interface Pgbouncer {
  /** Of the same database, through the pooler. */
  readonly url: string;
  stop(): Promise<void>;
}

const PLACES = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin', '/usr/local/sbin'];

/** The program; undefined where it is not installed. */
export const PGBOUNCER = PLACES.map((folder) => path.join(folder, 'pgbouncer')).find((file) => {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
});

/** For the names of tests that need it. */
export const WITHOUT = PGBOUNCER === undefined ? ' (skipped: pgbouncer is not installed)' : '';

/** It does not run as root; any account without rights will do. */
const NOBODY = 'nobody';

/**
 * Starts one before the database of a URL.
 * @param servers how many connections to Postgres all of its clients share.
 */
export async function startPgbouncer(databaseUrl: string, servers: number): Promise<Pgbouncer> {
  const folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-pgbouncer-'));
  chmodSync(folder, 0o755);
  const port = await steadyPort();
  const config = path.join(folder, 'pgbouncer.ini');
  writeFileSync(config, configuration(new URL(databaseUrl), port, servers));
  const args = process.geteuid?.() === 0 ? ['-u', NOBODY, config] : [config];
  const pooler = spawn(PGBOUNCER!, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  pooler.stderr.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const stop = async () => {
    await end(pooler);
    rmSync(folder, { recursive: true, force: true });
  };
  process.once('exit', () => pooler.kill('SIGKILL'));
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  try {
    await waitFor(() => answers(url.href, pooler), { what: 'pgbouncer to answer', everyMs: 50 });
  } catch (error) {
    await stop();
    throw new Error(`pgbouncer does not start:\n${log}`, { cause: error });
  }
  return { url: url.href, stop };
}

/** No `ignore_startup_parameters`: whatever the daemon asks for at its start must be what any pooler allows. */
function configuration(database: URL, port: number, servers: number): string {
  const { hostname, port: serverPort, username, password } = database;
  const quoted = (text: string) => `'${decodeURIComponent(text).replaceAll("'", "''")}'`;
  return `[databases]
* = host=${hostname} port=${serverPort || 5432} user=${quoted(username)} password=${quoted(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${servers}
max_client_conn = 200
`;
}

async function answers(url: string, pooler: ChildProcess): Promise<boolean> {
  if (pooler.exitCode !== null) throw new Error(`it ended with ${pooler.exitCode}`);
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 1_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('select 1');
    return true;
  } finally {
    await client.end().catch(() => {});
  }
}

async function end(pooler: ChildProcess): Promise<void> {
  if (pooler.exitCode !== null || pooler.signalCode !== null) return;
  const ended = once(pooler, 'exit');
  pooler.kill('SIGKILL');
  await ended;
}
