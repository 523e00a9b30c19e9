import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rename, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRoot } from './account.ts';
import type { Cluster } from './cluster.ts';
import { lastLines, serverProcess } from './command.ts';
import { EmbeddedPostgresError, errorCode } from './errors.ts';
import { overwrite } from './own-folder.ts';
import { inspect, serverPid } from './postmaster.ts';

/** A server that answers. */
export interface Started {
  readonly pid: number;
  readonly port: number;
  readonly reused: boolean;
  readonly child?: ChildProcess;
}

export interface LaunchOptions {
  readonly settings?: Readonly<Record<string, string>>;
  readonly port?: number;
}

const START_DEADLINE_MS = 120_000;
const WATCH_MS = 20;
const LOG_BYTES_KEPT = 10 * 1024 * 1024;

/** Always so, unless `settings` says otherwise. The log must not hold what people wrote: no statements, no values. */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  timezone: 'UTC',
  log_timezone: 'UTC',
  logging_collector: 'off',
  log_min_messages: 'log',
  log_min_error_statement: 'panic',
  log_error_verbosity: 'terse',
};

/** What the server writes: beside the data, readable for us alone. */
export function logFileOf(cluster: Cluster): string {
  return path.join(path.dirname(cluster.data), 'server.log');
}

/** The server of the cluster: the one that runs, or a new one. Returns when it answers. */
export async function findOrLaunch(cluster: Cluster, options: LaunchOptions): Promise<Started> {
  const until = performance.now() + START_DEADLINE_MS;
  for (;;) {
    const found = await inspect(cluster.data, cluster.password);
    if (found.state === 'ready') return { pid: found.pid, port: found.port, reused: true };
    if (found.state === 'none') {
      const port = options.port ?? (await choosePort(cluster));
      const launched = await launch(cluster, port, options.settings ?? {}, until);
      if (typeof launched !== 'string') return { ...launched, port, reused: false };
      if (!(await mayPass(launched, cluster, options.port)) || performance.now() > until) {
        throw new EmbeddedPostgresError(
          `PostgreSQL did not start:\n${launched}\n`,
          `More may be in ${logFileOf(cluster)}.`,
        );
      }
    } else if (performance.now() > until) {
      throw new EmbeddedPostgresError(
        `The PostgreSQL that runs in ${cluster.home} (pid ${found.pid}) does not answer.`,
        `Stop that process, or look into ${logFileOf(cluster)}.`,
      );
    }
    await sleep(WATCH_MS);
  }
}

/**
 * Whether a failed start is worth another try: somebody else started a server here meanwhile or took the
 * port, or backends of a killed server are still on their way out. Their text is all that Postgres gives;
 * it is English, for the server runs with LC_ALL=C.
 */
async function mayPass(output: string, cluster: Cluster, wanted: number | undefined): Promise<boolean> {
  if (output.includes('pre-existing shared memory block')) return true;
  if (output.includes('Address already in use')) return wanted === undefined;
  return (await serverPid(cluster.data)) !== undefined;
}

/** Starts the server and waits until it answers; a string is the end of its output when it gave up. */
async function launch(
  cluster: Cluster,
  port: number,
  settings: Readonly<Record<string, string>>,
  until: number,
): Promise<{ pid: number; child: ChildProcess } | string> {
  const logFile = logFileOf(cluster);
  const size = (await stat(logFile).catch(() => undefined))?.size ?? 0;
  if (size > LOG_BYTES_KEPT) await rename(logFile, `${logFile}.1`);
  // A file and no pipe: the server may outlive us, and would die writing to nobody.
  const output = await openLog(logFile);
  const from = (await output.stat()).size;
  const all = Object.entries({ ...SETTINGS, ...settings });
  const child = spawn(
    cluster.binaries.postgres,
    ['-D', cluster.data, '-p', String(port), ...all.flatMap(([name, value]) => ['-c', `${name}=${value}`])],
    { ...serverProcess(cluster.account), detached: true, stdio: ['ignore', output.fd, output.fd] },
  );
  // A process that ends where it stands, by a second signal or a fault, has it stop all the same.
  const stop = () => void child.kill('SIGINT');
  process.once('exit', stop);
  child.once('exit', () => process.off('exit', stop));
  let ended: string | undefined;
  child.on('error', (error) => {
    ended = error.message;
  });
  child.on('exit', (code, signal) => {
    ended = `(ended with ${signal ?? `status ${code}`})`;
  });
  try {
    while (ended === undefined) {
      const found = await inspect(cluster.data, cluster.password);
      if (found.state === 'ready' && found.pid === child.pid) {
        await overwrite(path.join(path.dirname(cluster.data), 'port'), `${port}\n`);
        child.unref();
        return { pid: found.pid, child };
      }
      if (performance.now() > until) child.kill('SIGQUIT');
      await sleep(WATCH_MS);
    }
    const said = (await readFile(logFile)).subarray(from).toString('utf8');
    return `${lastLines(said)}\n${ended}`;
  } catch (error) {
    child.kill('SIGQUIT');
    throw error;
  } finally {
    await output.close();
  }
}

/** Opens the log for appending. A user's folder stays usable for that user after root has started it once. */
async function openLog(file: string): Promise<FileHandle> {
  const append = constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW;
  try {
    const made = await open(file, append | constants.O_CREAT | constants.O_EXCL, 0o600);
    const { uid, gid } = await stat(path.dirname(file));
    if (isRoot()) await made.chown(uid, gid);
    return made;
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    return await open(file, append);
  }
}

async function choosePort(cluster: Cluster): Promise<number> {
  const last = Number(await readFile(path.join(path.dirname(cluster.data), 'port'), 'utf8').catch(() => '0'));
  return (
    (await freePort(Number.isInteger(last) && last > 0 && last < 65_536 ? last : 0)) ??
    (await freePort(0)) ??
    0
  );
}

/** The port if it can be listened on at this moment (0: any that can). */
function freePort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.on('error', () => resolve(undefined));
    probe.listen(port, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
    });
  });
}
