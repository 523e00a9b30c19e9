import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The real daemon as a process of its own. */
export interface Daemon {
  readonly process: ChildProcess;
  /** Where its page is, once it is served. */
  readonly page: Promise<string>;
  /** Settles when it has ended: with its exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
  /** The same; undefined while it runs. */
  readonly end: number | string | undefined;
  /** What it logged last. */
  readonly lastLines: readonly string[];
  /** Asks it to stop, and waits until it has. */
  stop(): Promise<void>;
}

/** How many lines of the log are kept at hand. */
const LAST_LINES = 10;

/** Where the program begins, in the sources and in `dist` alike. */
const BIN = fileURLToPath(
  new URL(`../bin.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url),
);

/**
 * Starts `wa-replica run` with an environment that is only what is given and the PATH.
 * @param logFile gets what it logs.
 */
export function startDaemon(env: Record<string, string>, logFile: string, cwd: string): Daemon {
  const log = createWriteStream(logFile, { flags: 'a' });
  const child = spawn(process.execPath, [BIN, 'run'], {
    // A folder without a .env file, and a group of its own: Ctrl-C reaches the demo, which ends it in order.
    cwd,
    detached: true,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.pipe(log);
  const lastLines: string[] = [];
  const page = new Promise<string>((resolve) => {
    createInterface(child.stderr).on('line', (line) => {
      lastLines.push(line);
      if (lastLines.length > LAST_LINES) lastLines.shift();
      if (!line.includes('"serving HTTP"')) return;
      const { host, port } = JSON.parse(line) as { host: string; port: number };
      resolve(`http://${host}:${port}/`);
    });
  });
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | string);
  return {
    process: child,
    page,
    ended,
    get end() {
      return child.exitCode ?? child.signalCode ?? undefined;
    },
    lastLines,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
