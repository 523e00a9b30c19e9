/** What `doctor` says of the upstream: each test has its own, simulated. */
import { afterEach, beforeEach, expect } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { type TestDatabase, useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';

export const CLOCK = '✓ clock: the upstream agrees with this machine';
export const ACCEPTED = '✓ key: accepted, with the scope whatsapp:read';
export const READABLE = ['✓ conn_a: paired, connected, readable', '✓ conn_b: paired, connected, readable'];

export class UpstreamDoctor {
  readonly database: TestDatabase = useTestDatabase({ migrated: true });
  simulator!: Simulator;

  constructor() {
    beforeEach(async () => {
      this.simulator = await startSimulator({ messages: 20, connections: ['conn_a', 'conn_b'] });
    });
    afterEach(() => this.simulator.close());
  }

  /** What it says, and how it ends. */
  examine = async (
    more: Record<string, string> = {},
  ): Promise<{ readonly status: number | string; readonly lines: string[] }> => {
    const quick = {
      ...quickSettings(this.database.url, this.simulator.url),
      REQUEST_TIMEOUT: '1s',
      SEARCH: 'off',
    };
    const env: Record<string, string> = { ...quick, ...more };
    // Node reads NODE_EXTRA_CA_CERTS when it starts.
    const run = env.NODE_EXTRA_CA_CERTS === undefined ? runCommand : runCli;
    const { status, stdout, stderr } = await run(['doctor'], env);
    expect(stdout + stderr).not.toContain(env.WHATSAPP_USE_API_KEY);
    const all = stdout.trimEnd().split('\n');
    expect(all[0]).toBe('✓ settings: complete and well-formed');
    const problems = all.filter((line) => line.startsWith('✗')).length;
    // 1 exactly where there is a problem.
    expect(status).toBe(problems > 0 ? 1 : 0);
    const told = problems === 1 ? '1 problem' : `${problems} problems`;
    expect(stderr).toBe(problems > 0 ? `wa-replica: ${told} found\n` : '');
    const at = all.findIndex((line) => line.startsWith('✓ listen'));
    expect(at).toBeGreaterThan(0);
    return { status, lines: all.slice(at + 1) };
  };
}
