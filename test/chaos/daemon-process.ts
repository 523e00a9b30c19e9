import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { CrashPoint } from '../../src/sync/crash-points.ts';
import { CACHE } from '../support/cli.ts';
import { waitFor } from '../support/wait.ts';

/** Where a daemon is to signal itself: the `nth` time that it comes to `point`. */
export interface Trap {
  readonly point: CrashPoint;
  readonly nth: number;
  /** `SIGKILL` dies there, `SIGSTOP` freezes there until SIGCONT. */
  readonly signal: 'SIGKILL' | 'SIGSTOP';
}

/** A daemon of `daemon.ts`, running or ended. */
export interface DaemonProcess {
  readonly pid: number;
  /** All that it logged. */
  readonly stderr: string;
  /** Its worker id, once it has said so. */
  readonly worker: string | undefined;
  /** Exit status, or the signal's name; undefined while it runs. */
  readonly end: number | string | undefined;
  readonly ended: Promise<number | string>;
  signal(signal: NodeJS.Signals): void;
  /** Signals it, and waits until it has ended. */
  kill(signal: NodeJS.Signals): Promise<number | string>;
  /** Whether it is stopped by SIGSTOP. */
  isFrozen(): Promise<boolean>;
  /** How often it has logged this message. */
  count(message: string): number;
  /** Waits until it has logged this message. */
  logged(message: string, deadlineMs?: number): Promise<void>;
}

const SCRIPT = fileURLToPath(new URL('daemon.ts', import.meta.url));

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts a daemon with no more of the environment than what is given. */
export function startDaemon(env: Readonly<Record<string, string>>, trap?: Trap): DaemonProcess {
  const args = trap === undefined ? [] : [trap.point, String(trap.nth), trap.signal];
  const child = spawn(process.execPath, [SCRIPT, ...args], {
    // The cache halves the time to start, which is most of a short life.
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: CACHE, ...env },
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
    end = (code ?? signal) as number | string;
    return end;
  });
  return {
    pid: child.pid!,
    get stderr() {
      return stderr;
    },
    get worker() {
      return /"worker":"([^"]+)"/.exec(stderr)?.[1];
    },
    get end() {
      return end;
    },
    ended,
    signal: (signal) => void child.kill(signal),
    async kill(signal) {
      child.kill(signal);
      return await ended;
    },
    async isFrozen() {
      if (end !== undefined) throw new Error(`the daemon ended (${end}) instead of freezing:\n${stderr}`);
      return /\) T /.test(await readFile(`/proc/${child.pid}/stat`, 'utf8'));
    },
    count: (message) => stderr.split(`"msg":"${message}"`).length - 1,
    async logged(message, deadlineMs = 30_000) {
      const there = () => stderr.includes(`"msg":"${message}"`);
      await waitFor(() => there() || end !== undefined, { what: `the log line "${message}"`, deadlineMs });
      if (!there())
        throw new Error(`the daemon ended (${end}) without the log line "${message}":\n${stderr}`);
    },
  };
}
