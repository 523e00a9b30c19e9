import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import path from 'node:path';

/** What a figure means nothing without. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly kernel: string;
  readonly node: string;
  readonly postgres: string;
  readonly psql: string;
  /** Commit of the sources, with a `+` where they differ from it. */
  readonly commit: string;
  /** Of the last minute before the start: what else the machine was doing. */
  readonly load_at_start: number;
}

const ROOT = path.join(import.meta.dirname, '../..');

export function machine(postgres: string, load: number): Machine {
  const all = cpus();
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: `Linux ${release()}`,
    node: process.version,
    postgres,
    psql: psqlVersion() ?? 'none',
    commit: commit(),
    load_at_start: Math.round(load * 100) / 100,
  };
}

/** Undefined where there is no psql. */
export function psqlVersion(): string | undefined {
  return said('psql', ['--version'])?.replace(/^psql \(PostgreSQL\) /, '');
}

function commit(): string {
  const head = said('git', ['-C', ROOT, 'rev-parse', '--short', 'HEAD']) ?? 'unknown';
  const changed = said('git', ['-C', ROOT, 'status', '--porcelain', 'src', 'migrations']) ?? '';
  return changed === '' ? head : `${head}+`;
}

function said(command: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}
