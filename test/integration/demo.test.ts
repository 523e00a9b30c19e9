import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../src/embedded/postmaster.ts';
import { runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { waitFor } from '../support/wait.ts';

test('demo --once catches up, compares every row with the truth, and exits 0', async () => {
  // Closed to the account that a server of root's runs under: its data are elsewhere then.
  const TMPDIR = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => rmSync(TMPDIR, { recursive: true }));
  const args = ['demo', '--once', '--messages', '600', '--seed', '7'];
  const { status, stdout } = await runCli(args, { TMPDIR });
  expect(stdout).toContain('the replica agrees with the upstream');
  expect(stdout).toMatch(/200 messages, \d+ conversations, \d+ contacts: all equal to the truth/);
  expect(status).toBe(0);
  const [, passfile] = /passfile=([^']+)/.exec(stdout)!;
  expect(existsSync(path.dirname(decodeURIComponent(passfile!)))).toBe(false);
  expect(readdirSync(TMPDIR)).toEqual([]);
});

test('demo shows the live table and ends cleanly on Ctrl-C', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '2'], {});
  await waitFor(() => /live +\d+/.test(demo.stdout), { what: 'the live table' });
  const [, page] = /page: +(http:.*)/.exec(demo.stdout)!;
  expect(await fetch(page!).then((answer) => answer.text())).toContain('<h1>wa-replica</h1>');
  // The URL that psql gets works here as well.
  const [, url] = /psql '(.*)'/.exec(demo.stdout)!;
  const { status, stdout } = await runCommand(['status'], { DATABASE_URL: url! });
  expect([status, stdout]).toEqual([0, expect.stringMatching(/ live +\d+/)]);
  expect(await demo.kill('SIGINT')).toBe(0);
  expect(demo.stdout).toMatch(/ended\n$/);
});

test('demo ends with whoever reads it', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '1'], {});
  demo.process.stdout!.once('data', () => demo.process.stdout!.destroy());
  await waitFor(() => demo.end !== undefined, { what: 'the end', deadlineMs: 60_000 });
  expect({ status: demo.end, stderr: demo.stderr }).toEqual({ status: 0, stderr: '' });
});

test('demo --once that is interrupted has compared nothing, and exits 1', async () => {
  const demo = startCli(['demo', '--once', '--messages', '300', '--connections', '1'], {});
  await waitFor(() => demo.stdout.startsWith('starting'), { what: 'its first words' });
  expect(await demo.kill('SIGTERM')).toBe(1);
  expect(demo.stderr).toBe('wa-replica: interrupted\n');
  expect(demo.stdout).toMatch(/ended\n$/);
});

test('a second signal waits for nothing, and leaves nothing behind either', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '1'], {});
  await waitFor(() => /live +\d+/.test(demo.stdout), { what: 'the live table' });
  const [, log] = /says: +(.*)/.exec(demo.stdout)!;
  const dir = path.dirname(log!);
  const [, daemon] = /"pid":(\d+)/.exec(readFileSync(log!, 'utf8'))!;
  const [postgres] = readFileSync(path.join(dir, 'postgres/postgres/data/postmaster.pid'), 'utf8').split(
    '\n',
  );
  // Two of one kind could come as one.
  demo.process.kill('SIGINT');
  expect(await demo.kill('SIGTERM')).toBe(1);
  expect(existsSync(dir)).toBe(false);
  for (const pid of [daemon, postgres])
    await waitFor(async () => !(await isAlive(Number(pid))), { what: `the end of ${pid}` });
});

test('a demo that gets no folder says where it wanted one', async () => {
  const TMPDIR = path.join(tmpdir(), 'wa-replica-test-that-is-not-there');
  const { status, stderr } = await runCli(['demo'], { TMPDIR });
  expect([status, stderr]).toEqual([
    1,
    `wa-replica: no folder can be made in ${TMPDIR} (ENOENT): set TMPDIR to another\n`,
  ]);
});

test('a demo whose daemon ends shows its last words, and fails', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '1'], {});
  await waitFor(() => /live +\d+/.test(demo.stdout), { what: 'the live table' });
  const [, log] = /says: +(.*)/.exec(demo.stdout)!;
  const [, pid] = /"pid":(\d+)/.exec(readFileSync(log!, 'utf8'))!;
  process.kill(Number(pid), 'SIGKILL');
  expect(await demo.ended).toBe(1);
  expect(demo.stdout).toContain('"msg":"replicating"');
  expect(demo.stderr).toBe('wa-replica: the daemon ended (SIGKILL); what it said last is above\n');
});

test('a demo whose Postgres is gone says so', async () => {
  const demo = startCli(['demo', '--messages', '300', '--connections', '1'], {});
  await waitFor(() => /live +\d+/.test(demo.stdout), { what: 'the live table' });
  const [, dir] = /says: +(.*)\/[^/]+\n/.exec(demo.stdout)!;
  const pid = readdirSync(dir!, { recursive: true, encoding: 'utf8' }).find((name) =>
    name.endsWith('postmaster.pid'),
  );
  process.kill(Number(readFileSync(path.join(dir!, pid!), 'utf8').split('\n')[0]), 'SIGKILL');
  expect(await demo.ended).toBe(1);
  expect(demo.stderr).toMatch(/^wa-replica: the demo's Postgres does not answer \(\w+\)\n$/);
});

test('a demo whose Postgres cannot be made leaves nothing behind', () => {
  const TMPDIR = mkdtempSync(path.join(tmpdir(), 'wa-replica-test-'));
  onTestFinished(() => rmSync(TMPDIR, { recursive: true }));
  chmodSync(TMPDIR, 0o755);
  // No file over 512 KB: a disk that fills, as far as initdb knows.
  const script = 'ulimit -f 1024; exec "$0" src/bin.ts demo --once';
  const env = { ...process.env, TMPDIR, NODE_DISABLE_COMPILE_CACHE: '1' };
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script, process.execPath], {
    env,
    encoding: 'utf8',
  });
  expect([status, stdout, stderr]).toEqual([
    1,
    expect.stringMatching(/^starting: .*\nended\n$/),
    expect.stringContaining('initdb failed'),
  ]);
  expect(readdirSync(TMPDIR)).toEqual([]);
});
