import { rmdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type Cluster, dataFolder, openCluster, removeCluster } from './cluster.ts';
import { errorCode } from './errors.ts';
import { findOrLaunch, logFileOf, type Started } from './launch.ts';
import { isAlive, ROLE, serverPid, signalAndWait } from './postmaster.ts';

export interface EmbeddedPostgresOptions {
  /** The folder to keep everything in; made where it does not exist. */
  readonly dir: string;
  /** Gets a line for what an operator may want to know. Never contains the password. */
  readonly log?: (line: string) => void;
  /** Further server settings. A server that is found running keeps the ones it has. */
  readonly settings?: Readonly<Record<string, string>>;
  /** This port or failure; left out: that of the last start if it is free, else any. */
  readonly port?: number;
}

export type StopMode = 'fast' | 'immediate';

export interface EmbeddedPostgres {
  /** With the password in it. */
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  readonly logFile: string;
  readonly pid: number;
  /** A shell line that opens the database. Shows where the password is, not the password. */
  readonly psqlLine: string;
  /** It was running already, and `stop` leaves it running. */
  readonly reused: boolean;
  /** Waits until it is gone, whoever ended it.
   * @returns false where the signal came first. */
  gone(signal: AbortSignal): Promise<boolean>;
  /** Stops it and waits until it is gone. Harmless when called again, or when the server died. */
  stop(mode?: StopMode): Promise<void>;
  /** Kills the postmaster with SIGKILL, as a power cut would, and waits until it is gone. For tests. */
  crash(): Promise<void>;
  /** Stops it, reused or not, and deletes the database; the folder too if nothing else is in it. */
  destroy(): Promise<void>;
}

const STOP_DEADLINE_MS = 60_000;
/** How often it is looked whether a server is still there: one that was found running is no child of ours. */
const GONE_WATCH_MS = 500;

/**
 * Starts a PostgreSQL of one's own in a folder, from the programs in the npm package, and makes the
 * database `wa_replica` in it. It listens on 127.0.0.1 only.
 *
 * The server is a process group of its own: Ctrl-C on the terminal does not reach it, and if the starting
 * process is killed without a chance to call `stop`, it goes on running. The next start on that folder
 * finds it, takes it as it is (`reused`) and does not stop it; `stopEmbeddedPostgres` would.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const cluster = await openCluster({
    dir: options.dir,
    sync: options.settings?.fsync !== 'off',
    ...(options.log && { log: options.log }),
  });
  const started = await findOrLaunch(cluster, options);
  await ensureDatabase(cluster, started.port);
  options.log?.(
    `PostgreSQL ${cluster.binaries.major} ${started.reused ? 'was already running' : 'runs'} in ${cluster.home} on 127.0.0.1:${started.port}`,
  );
  return handle(cluster, options.dir, started);
}

/** Stops the server of a folder, whoever started it. True if there was one. */
export async function stopEmbeddedPostgres(dir: string, mode: StopMode = 'fast'): Promise<boolean> {
  const pid = await serverPid(dataFolder(dir)).catch(() => undefined);
  if (pid === undefined) return false;
  await stopProcess(pid, dataFolder(dir), mode);
  return true;
}

/** Stops the server of a folder and deletes its database; the folder too if nothing else is in it. */
export async function destroyEmbeddedPostgres(dir: string): Promise<void> {
  // What is deleted needs no checkpoint first.
  await stopEmbeddedPostgres(dir, 'immediate');
  await removeCluster(dir);
  await rmdir(dir).catch(() => {});
}

function handle(cluster: Cluster, dir: string, { pid, port, reused, child }: Started): EmbeddedPostgres {
  const kept = cluster.passwordFile.split('/').map(encodeURIComponent).join('/').replaceAll("'", '%27');
  const end = async (how: () => Promise<void>) => {
    // Unreferenced, its end would go unnoticed by a process that waits for nothing else.
    child?.ref();
    await how();
  };
  return {
    url: urlOf(cluster, port, ROLE),
    port,
    dataDir: cluster.data,
    logFile: logFileOf(cluster),
    pid,
    psqlLine: `psql 'postgresql://${ROLE}@127.0.0.1:${port}/${ROLE}?passfile=${kept}'`,
    reused,
    async gone(signal) {
      while (!signal.aborted) {
        if (!(await isAlive(pid))) return true;
        await sleep(GONE_WATCH_MS, undefined, { signal }).catch(() => {});
      }
      return false;
    },
    async stop(mode = 'fast') {
      if (!reused) await end(() => stopProcess(pid, cluster.data, mode));
    },
    async crash() {
      await end(() => kill(pid, cluster.data));
    },
    async destroy() {
      await end(() => destroyEmbeddedPostgres(dir));
    },
  };
}

function urlOf(cluster: Cluster, port: number, database: string): string {
  return `postgresql://${ROLE}:${cluster.password}@127.0.0.1:${port}/${database}?sslmode=disable`;
}

async function ensureDatabase(cluster: Cluster, port: number): Promise<void> {
  const client = new pg.Client({ connectionString: urlOf(cluster, port, 'postgres') });
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [ROLE]);
    // template0: nobody is ever connected to it, which would make this fail.
    if (rowCount === 0) await client.query(`create database ${ROLE} template template0`);
  } catch (error) {
    // Another process did it in the same moment.
    if (!['42P04', '23505'].includes(errorCode(error) ?? '')) throw error;
  } finally {
    await client.end();
  }
}

async function stopProcess(pid: number, data: string, mode: StopMode): Promise<void> {
  if (mode === 'fast' && (await signalAndWait(pid, data, 'SIGINT', STOP_DEADLINE_MS))) return;
  if (!(await signalAndWait(pid, data, 'SIGQUIT', STOP_DEADLINE_MS))) await kill(pid, data);
}

async function kill(pid: number, data: string): Promise<void> {
  await signalAndWait(pid, data, 'SIGKILL', STOP_DEADLINE_MS);
}
