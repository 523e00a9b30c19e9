import { execFile } from 'node:child_process';
import { readFile, readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { EmbeddedPostgresError, errorCode } from './errors.ts';
import { overwrite } from './own-folder.ts';

/** What is known of a server on a data folder. */
export type Running =
  | { state: 'none' }
  | { state: 'busy'; pid: number }
  | { state: 'ready'; pid: number; port: number };

/** The name of the role, superuser of its own server, and of the database. */
export const ROLE = 'wa_replica';

/** More than any system gives: Postgres finds no such process and takes the file as left over. */
const NO_PID = '999999999';

const WATCH_MS = 25;

/** Whether the process exists; one that has ended and is not yet collected does not count. */
export async function isAlive(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) !== 'EPERM') return false;
  }
  if (process.platform !== 'linux') return true;
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/\) [ZX] /.test(stat);
}

/** Pids are used again, after a reboot above all: is this one really the server of that folder? */
async function isServerOf(pid: number, data: string): Promise<boolean> {
  if (process.platform === 'linux') {
    const folder = await readlink(`/proc/${pid}/cwd`).catch((error: unknown) => errorCode(error));
    // The working folder of a postmaster is its data folder. Not allowed to look = somebody else's process.
    return folder === (await realpath(data).catch(() => data));
  }
  const listed = await promisify(execFile)('ps', ['-o', 'command=', '-p', String(pid)]).catch(
    () => undefined,
  );
  return listed?.stdout.includes(data) ?? false;
}

/**
 * Signals the server of that folder and waits until it is gone; false when the time is up. A pid that has
 * passed to another process meanwhile is left alone.
 */
export async function signalAndWait(
  pid: number,
  data: string,
  signal: NodeJS.Signals,
  deadlineMs: number,
): Promise<boolean> {
  if (!(await isAlive(pid)) || !(await isServerOf(pid, data))) return true;
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (errorCode(error) !== 'ESRCH') throw error;
  }
  const until = performance.now() + deadlineMs;
  while (await isAlive(pid)) {
    if (performance.now() > until) return false;
    await sleep(WATCH_MS);
  }
  return true;
}

/** The pid and port in a data folder's `postmaster.pid`, if it has one. */
async function readPidFile(data: string): Promise<{ pid: number; port: number; rest: string } | undefined> {
  const text = await readFile(path.join(data, 'postmaster.pid'), 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return '';
    throw error;
  });
  const [first = '', ...rest] = text.split('\n');
  const pid = Number(first);
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  return { pid, port: Number(rest[2] ?? 0), rest: rest.join('\n') };
}

/** The pid of the live server of a data folder, whatever state it is in. */
export async function serverPid(data: string): Promise<number | undefined> {
  const file = await readPidFile(data);
  if (!file || !(await isAlive(file.pid)) || !(await isServerOf(file.pid, data))) return undefined;
  return file.pid;
}

/** Looks whether a server runs on the data folder, and whether it lets us in. */
export async function inspect(data: string, password: string): Promise<Running> {
  const file = await readPidFile(data);
  if (!file || !(await isAlive(file.pid))) return { state: 'none' };
  if (!(await isServerOf(file.pid, data))) {
    await disown(data, file.pid);
    return { state: 'none' };
  }
  const { pid, port } = file;
  return (await answers(port, password, data)) ? { state: 'ready', pid, port } : { state: 'busy', pid };
}

/**
 * Postgres refuses to start while the pid in a left-over file belongs to any process of its user. Only the
 * pid is replaced: the rest tells Postgres which shared memory to look at for backends that live on.
 */
async function disown(data: string, pid: number): Promise<void> {
  const now = await readPidFile(data);
  if (now?.pid === pid) await overwrite(path.join(data, 'postmaster.pid'), `${NO_PID}\n${now.rest}`);
}

async function answers(port: number, password: string, data: string): Promise<boolean> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port, user: ROLE, password, database: 'postgres', ssl: false },
    connectionTimeoutMillis: 2_000,
    application_name: 'wa-replica embedded',
  });
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ folder: string }>(
      `select current_setting('data_directory') as folder`,
    );
    return (await realpath(rows[0]?.folder ?? '/')) === (await realpath(data));
  } catch (error) {
    // Class 28: it refuses the password, so waiting for it would be in vain.
    if (errorCode(error)?.startsWith('28')) {
      throw new EmbeddedPostgresError(
        `The PostgreSQL that runs on ${data} refuses the password in the file beside it.`,
        'Restore that file, or stop the server and move the folder away to begin anew.',
      );
    }
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
