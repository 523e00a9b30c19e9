import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { CrashPoint } from '../../src/sync/crash-points.ts';
import { Child } from '../support/child.ts';
import { CACHE } from '../support/cli.ts';

/** Where a daemon is to signal itself: the `nth` time that it comes to `point`. */
export interface Trap {
  readonly point: CrashPoint;
  readonly nth: number;
  /** `SIGKILL` dies there, `SIGSTOP` freezes there until SIGCONT. */
  readonly signal: 'SIGKILL' | 'SIGSTOP';
}

const SCRIPT = fileURLToPath(new URL('daemon.ts', import.meta.url));

/** A daemon of `daemon.ts`, running or ended. */
export class DaemonProcess extends Child {
  constructor(env: Readonly<Record<string, string>>, trap?: Trap) {
    const args = trap === undefined ? [] : [trap.point, String(trap.nth), trap.signal];
    // The cache halves the time to start, which is most of a short life.
    super([SCRIPT, ...args], { NODE_COMPILE_CACHE: CACHE, ...env });
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Whether it is stopped by SIGSTOP. */
  async isFrozen(): Promise<boolean> {
    if (this.end !== undefined)
      throw new Error(`the daemon ended (${this.end}) instead of freezing:\n${this.stderr}`);
    return /\) T /.test(await readFile(`/proc/${this.pid}/stat`, 'utf8'));
  }

  /** How often it has logged this message. */
  count(message: string): number {
    return this.stderr.split(`"msg":"${message}"`).length - 1;
  }
}
