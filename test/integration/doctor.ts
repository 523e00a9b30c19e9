/** What `doctor` says of a database: each test has its own, migrated. */
import { afterAll, beforeAll, expect } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { type TestDatabase, useFreshDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';

export const REACHABLE = expect.stringMatching(/^✓ database: reachable, PostgreSQL \d\d/);
export const CLOCK = '✓ clock: the database agrees with this machine';
export const UP_TO_DATE = expect.stringMatching(/^✓ schema: up to date \(\d{4}_\w+\)$/);
export const HEARD = '✓ listen: NOTIFY is heard';

export interface Examination {
  readonly status: number | string;
  /** Those about the database. */
  readonly lines: string[];
}

/** What doctor prints, without that the tests' server may forget what it has committed (`hazards.test.ts`). */
export function linesOf(stdout: string): string[] {
  return stdout
    .replace(/^! durability: .*\n .*\n/gm, '')
    .trimEnd()
    .split('\n');
}

export class Doctor {
  readonly database: TestDatabase = useFreshDatabase({ migrated: true });
  simulator!: Simulator;

  /** The database's URL, changed. */
  urlWith = (parts: Partial<URL>): string => Object.assign(new URL(this.database.url), parts).href;

  /** What doctor says of a database, and how it ends. */
  examine = async (url: string, more: Record<string, string> = {}): Promise<Examination> => {
    const { status, stdout, stderr } = await runCommand(['doctor'], {
      ...quickSettings(url, this.simulator.url),
      SEARCH: 'off',
      ...more,
    });
    const password = new URL(url).password;
    if (password !== '') expect(stdout + stderr).not.toContain(password);
    const lines = linesOf(stdout);
    expect(status).toBe(lines.some((line) => line.startsWith('✗')) ? 1 : 0);
    // The upstream is looked at whatever the database says.
    expect(lines.at(-1)).toBe('✓ conn_a: paired, connected, readable');
    return { status, lines: lines.slice(1, lines.indexOf('✓ clock: the upstream agrees with this machine')) };
  };

  /** For the file that calls this. */
  static use(): Doctor {
    const doctor = new Doctor();
    beforeAll(async () => {
      doctor.simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
    });
    afterAll(() => doctor.simulator.close());
    return doctor;
  }
}
