import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { waitFor } from './wait.ts';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/**
 * A Node process with these arguments, in an empty folder, with no more of the environment than what is given; it ends
 * with this one. What it writes is kept, of standard output only where that is asked for.
 */
export class Child {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Exit status, or the signal's name. */
  readonly ended: Promise<number | string>;
  stdout = '';
  stderr = '';
  /** As {@link ended}; undefined while it runs. */
  end: number | string | undefined;

  constructor(args: readonly string[], env: Readonly<Record<string, string>>, { stdout = false } = {}) {
    const cwd = mkdtempSync(path.join(tmpdir(), 'wa-replica-child-'));
    const child = spawn(process.execPath, args, {
      cwd,
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', stdout ? 'pipe' : 'ignore', 'pipe'],
    });
    running.add(child);
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.process = child;
    this.pid = child.pid!;
    this.ended = once(child, 'close').then(([code, signal]) => {
      running.delete(child);
      rmSync(cwd, { recursive: true, force: true });
      this.end = (code ?? signal) as number | string;
      return this.end;
    });
  }

  /** The id that a daemon has in `workers` and `lease_owner`; undefined until it has said so. */
  get worker(): string | undefined {
    return /"worker":"([^"]+)"/.exec(this.stderr)?.[1];
  }

  /** Waits until it has logged this message. */
  async logged(message: string, deadlineMs = 30_000): Promise<void> {
    const there = () => this.stderr.includes(`"msg":"${message}"`);
    const what = `the log line "${message}"`;
    await waitFor(() => there() || this.end !== undefined, { what, deadlineMs });
    if (!there()) throw new Error(`it ended (${this.end}) without ${what}:\n${this.stderr}`);
  }

  /** Signals it, and waits until it has ended. */
  async kill(signal: NodeJS.Signals): Promise<number | string> {
    this.process.kill(signal);
    return await this.ended;
  }
}
