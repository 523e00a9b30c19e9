import { readFileSync } from 'node:fs';
import { Child } from '../support/child.ts';
import { runCommand } from '../support/command.ts';
import { cpuOf, type Memory, memoryOf } from './proc.ts';

export interface DaemonOptions {
  /** The entry of the command line. */
  readonly bin: string;
  readonly env: Readonly<Record<string, string>>;
  /** Writes a CPU profile into this folder when it ends. */
  readonly profileDir?: string | undefined;
}

/** `wa-replica run`, the real process, in a folder without a `.env` file. */
export class Daemon extends Child {
  /** Rejects when it ends; to be raced with whatever waits for its work. */
  readonly died: Promise<never>;

  constructor({ bin, env, profileDir }: DaemonOptions) {
    const profile =
      profileDir === undefined
        ? []
        : ['--cpu-prof', '--cpu-prof-interval=500', `--cpu-prof-dir=${profileDir}`];
    // As it starts where it is installed.
    const { allocator, flags } = startedWith(bin);
    super([...flags, ...profile, bin, 'run'], { HTTP_PORT: 'off', ...allocator, ...env });
    this.died = this.ended.then(() => this.#fail());
    this.died.catch(() => {});
  }

  override logged(message: string, deadlineMs = 120_000): Promise<void> {
    return super.logged(message, deadlineMs);
  }

  /** Seconds of CPU so far. */
  cpu(): number {
    return cpuOf(this.pid);
  }

  memory(): Memory {
    return memoryOf(this.pid);
  }

  /** Asks it to stop, and waits until it has. Fails where it does not end well. */
  async stop(): Promise<void> {
    if ((await this.kill('SIGTERM')) !== 0) this.#fail();
  }

  #fail(): never {
    throw new Error(`the daemon ended with ${this.end}:\n${this.stderr.slice(-4000)}`);
  }
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

/** Runs another command of the program to its end, in this process: its own start is no part of what is measured. */
export async function command(args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  const { status, stderr } = await runCommand(args, env);
  if (status !== 0) throw new Error(`wa-replica ${args.join(' ')} ended with ${status}:\n${stderr}`);
}
