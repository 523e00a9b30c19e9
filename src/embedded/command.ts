import { type SpawnOptions, spawn } from 'node:child_process';
import type { Account } from './account.ts';

/** How a command ended. */
export interface Outcome {
  readonly ok: boolean;
  /** Its last lines on stdout and stderr, or why it could not be started. */
  readonly output: string;
}

const KEPT_LINES = 15;

/** The last lines of an output, for an error message. */
export function lastLines(text: string, count = KEPT_LINES): string {
  return text.trimEnd().split('\n').slice(-count).join('\n');
}

/**
 * What a process of the server gets from us. The environment is not inherited: it holds an API key that
 * is none of the server's business, and a PGDATA or PGPORT of the user's would redirect it. The working
 * folder is `/`, for the caller's may be closed to the account.
 */
export function serverProcess(account: Account | undefined): SpawnOptions {
  return {
    cwd: '/',
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
    ...(account && { uid: account.uid, gid: account.gid }),
  };
}

/** Runs a command under the account until it ends. A failure is an outcome, never an exception. */
export function run(file: string, args: readonly string[], account: Account | undefined): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(file, args, { ...serverProcess(account), stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = (chunk: Buffer) => {
      output = lastLines(output + chunk.toString('utf8'), 4 * KEPT_LINES);
    };
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code, signal) => {
      const how = code === 0 ? '' : `\n(ended with ${signal ?? `status ${code}`})`;
      resolve({ ok: code === 0, output: lastLines(output) + how });
    });
  });
}

/** Whether the account can enter the folder, found out by trying. */
export async function canEnter(folder: string, account: Account | undefined): Promise<boolean> {
  return (await run('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], account)).ok;
}
