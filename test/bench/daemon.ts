import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { waitFor } from '../support/wait.ts';
import { cpuOf, type Memory, memoryOf } from './proc.ts';

/** `wa-replica run`, the real process. */
export interface Daemon {
  readonly pid: number;
  readonly stderr: string;
  /** Its id in `workers` and `lease_owner`; undefined until it has said so. */
  readonly worker: string | undefined;
  /** Waits until it has logged this message. */
  logged(message: string): Promise<void>;
  /** Rejects when it ends; to be raced with whatever waits for its work. */
  readonly died: Promise<never>;
  /** Seconds of CPU so far. */
  cpu(): number;
  memory(): Memory;
  /** Asks it to stop, and waits until it has. Fails where it does not end well. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export interface DaemonOptions {
  /** The entry of the command line. */
  readonly bin: string;
  readonly env: Readonly<Record<string, string>>;
  /** Writes a CPU profile into this folder when it ends. */
  readonly profileDir?: string | undefined;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts the daemon with no more of the environment than what is given, in a folder without a `.env` file. */
export function startDaemon({ bin, env, profileDir }: DaemonOptions): Daemon {
  const profile =
    profileDir === undefined ? [] : ['--cpu-prof', '--cpu-prof-interval=500', `--cpu-prof-dir=${profileDir}`];
  const cwd = mkdtempSync(path.join(tmpdir(), 'wa-replica-bench-cwd-'));
  // As it starts where it is installed.
  const { allocator, flags } = startedWith(bin);
  const child = spawn(process.execPath, [...flags, ...profile, bin, 'run'], {
    cwd,
    env: { PATH: process.env.PATH, HTTP_PORT: 'off', ...allocator, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  running.add(child);
  let stderr = '';
  let end: number | string | undefined;
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child);
    rmSync(cwd, { recursive: true, force: true });
    end = (code ?? signal) as number | string;
    return end;
  });
  const died = ended.then(() => {
    throw new Error(`the daemon ended with ${end}:\n${stderr.slice(-4000)}`);
  });
  died.catch(() => {});
  const pid = child.pid!;
  return {
    pid,
    died,
    get stderr() {
      return stderr;
    },
    get worker() {
      return /"worker":"([^"]+)"/.exec(stderr)?.[1];
    },
    async logged(message) {
      const there = () => stderr.includes(`"msg":"${message}"`);
      const what = `the daemon's log line "${message}"`;
      await waitFor(() => there() || end !== undefined, { what, deadlineMs: 120_000 });
      if (!there()) throw new Error(`the daemon ended (${end}) without the line "${message}":\n${stderr}`);
    },
    cpu: () => cpuOf(pid),
    memory: () => memoryOf(pid),
    async stop() {
      child.kill('SIGTERM');
      if ((await ended) !== 0) throw new Error(`the daemon ended with ${end}:\n${stderr.slice(-4000)}`);
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** What the first line of the program gives its Node: the allocator's variables, and flags. */
function startedWith(bin: string): { allocator: Record<string, string>; flags: string[] } {
  const line = /^#!\/usr\/bin\/env -S (.*)node (.+)$/m.exec(readFileSync(bin, 'utf8'));
  if (line === null) throw new Error(`${bin} does not say how it is started`);
  const allocator = line[1]!
    .trim()
    .split(' ')
    .filter((one) => one !== '');
  return {
    allocator: Object.fromEntries(allocator.map((one) => one.split('=') as [string, string])),
    flags: line[2]!.split(' '),
  };
}

/** Runs another command of the program to its end. */
export async function command(
  bin: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`wa-replica ${args.join(' ')} ended with ${code}:\n${stderr}`);
}
