import { expect, test } from 'vitest';
import { runCli, startCli } from '../support/cli.ts';
import { waitFor } from '../support/wait.ts';

test('demo --once catches up, compares every row with the truth, and exits 0', async () => {
  const { status, stdout } = await runCli(['demo', '--once', '--messages', '600', '--seed', '7'], {});
  expect(stdout).toContain('the replica agrees with the upstream');
  expect(stdout).toMatch(/200 messages, \d+ conversations, \d+ contacts: all equal to the truth/);
  expect(status).toBe(0);
});

test('demo shows the live table and ends cleanly on Ctrl-C', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '2'], {});
  await waitFor(() => /live +\d+/.test(demo.stdout), { what: 'the live table', deadlineMs: 40_000 });
  expect(demo.stdout).toContain("psql '");
  expect(await demo.kill('SIGINT')).toBe(0);
  expect(demo.stdout).toMatch(/ended\n$/);
});
