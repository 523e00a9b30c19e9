import { readdirSync, readFileSync } from 'node:fs';

/** What Linux says of a process in `/proc`. */

/** Ticks a second in `/proc/PID/stat`: USER_HZ, which is 100 on every architecture that Node runs on. */
const TICKS = 100;

/** Bytes in the unit that memory is told in, as the targets have it. */
export const MB = 1e6;

interface Stat {
  readonly parent: number;
  /** Seconds of CPU, in user and kernel mode. */
  readonly own: number;
  /** The same, of children that have ended and were waited for. */
  readonly reaped: number;
}

function stat(pid: number | string): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold spaces and parentheses itself.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const at = (place: number) => Number(fields[place - 3]);
    return { parent: at(4), own: (at(14) + at(15)) / TICKS, reaped: (at(16) + at(17)) / TICKS };
  } catch {
    return undefined;
  }
}

/** Seconds of CPU that a process has used, in user and kernel mode. NaN where it has ended. */
export function cpuOf(pid: number): number {
  return stat(pid)?.own ?? Number.NaN;
}

/** The same of a process and its children, those that have ended included: Postgres with all its backends. */
export function cpuOfFamily(pid: number): number {
  const head = stat(pid);
  if (head === undefined) return Number.NaN;
  let sum = head.own + head.reaped;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const one = stat(name);
    if (one?.parent === pid) sum += one.own;
  }
  return sum;
}

export interface Memory {
  /** Bytes resident now. */
  readonly rss: number;
  /** The most there ever were. */
  readonly peak: number;
}

export function memoryOf(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/status`, 'latin1');
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1]);
  return { rss: kib('VmRSS') * 1024, peak: kib('VmHWM') * 1024 };
}
