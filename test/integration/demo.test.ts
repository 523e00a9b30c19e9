import { expect, test } from 'vitest';
import { runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
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
  const [, page] = /page: +(http:.*)/.exec(demo.stdout)!;
  expect(await fetch(page!).then((answer) => answer.text())).toContain('<h1>wa-replica</h1>');
  // The URL that psql gets works here as well.
  const [, url] = /psql '(.*)'/.exec(demo.stdout)!;
  const { status, stdout } = await runCommand(['status'], { DATABASE_URL: url! });
  expect([status, stdout]).toEqual([0, expect.stringMatching(/ live +\d+/)]);
  expect(await demo.kill('SIGINT')).toBe(0);
  expect(demo.stdout).toMatch(/ended\n$/);
});
