import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { waitFor } from './wait.ts';

/** A `wa-replica` process. */
export interface CliProcess {
  readonly process: ChildProcess;
  readonly stdout: string;
  readonly stderr: string;
  /** Exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
  /** Waits until stderr has a log line with this message. */
  logged(message: string): Promise<void>;
  kill(signal: NodeJS.Signals): Promise<number | string>;
}

export const SOURCES = fileURLToPath(new URL('../../src/bin.ts', import.meta.url));
export const BUILT = fileURLToPath(new URL('../../dist/src/bin.js', import.meta.url));

const SEVERAL = fileURLToPath(new URL('several-commands.ts', import.meta.url));

/** Half of a start is compiling, and a suite starts the program some hundred times. */
export const CACHE = fileURLToPath(new URL('../../node_modules/.cache/wa-replica-tests', import.meta.url));

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Starts the command line in an empty folder, with no more of the environment than what is given. */
export function startCli(
  args: readonly string[],
  env: Record<string, string>,
  bin: string = SOURCES,
): CliProcess {
  const cwd = mkdtempSync(path.join(tmpdir(), 'wa-replica-cli-'));
  const child = spawn(process.execPath, [bin, ...args], {
    cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    running.delete(child);
    rmSync(cwd, { recursive: true, force: true });
    return (code ?? signal) as number | string;
  });
  return {
    process: child,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    ended,
    async logged(message) {
      const there = () => stderr.includes(`"msg":"${message}"`);
      await waitFor(() => there() || child.exitCode !== null, {
        what: `the log line "${message}"`,
        deadlineMs: 30_000,
      });
      if (!there()) throw new Error(`ended without the log line "${message}":\n${stderr}`);
    },
    async kill(signal) {
      child.kill(signal);
      return await ended;
    },
  };
}

/** Runs the command line to its end. */
export async function runCli(
  args: readonly string[],
  env: Record<string, string>,
  bin?: string,
): Promise<{ status: number | string; stdout: string; stderr: string }> {
  const cli = startCli(args, env, bin);
  const status = await cli.ended;
  return { status, stdout: cli.stdout, stderr: cli.stderr };
}

/** What commands said and how they ended, where one process runs them one after the other. */
export interface Several {
  readonly ended: readonly { readonly status: number; readonly stdout: string; readonly stderr: string }[];
  /** Everything that came out of the process, theirs included. */
  readonly output: string;
}

/** Runs commands to their ends in a process of their own, of which nothing escapes unseen. */
export async function runSeveral(commands: readonly string[], env: Record<string, string>): Promise<Several> {
  const split = commands.map((command) => command.split(' '));
  const { status, stdout, stderr } = await runCli([JSON.stringify(split)], env, SEVERAL);
  if (status !== 0) throw new Error(`${commands.join(', ')}: the process ended with ${status}`);
  return { ended: JSON.parse(stdout.trimEnd().split('\n').at(-1)!), output: stdout + stderr };
}
