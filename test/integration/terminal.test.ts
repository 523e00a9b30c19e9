/** The process itself: what it does where the terminal, its streams and its folder are not as one is used to. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { CACHE, SOURCES } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let env: Record<string, string>;
beforeAll(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 60 });
  env = quickSettings(database.url, simulator.url);
  expect((await runCommand(['sync'], env)).status).toBe(0);
});
afterAll(() => simulator.close());

const BIN = `"${process.execPath}" "${SOURCES}"`;

/** Runs a line of the shell. @param answer typed once the output is as wanted, by default that it has a question. */
async function shell(
  line: string,
  { cwd = '/', answer, after = /\[y\/N\]/ }: { cwd?: string; answer?: string; after?: RegExp } = {},
): Promise<{ status: number | null; output: string }> {
  const child = spawn('sh', ['-c', line], {
    cwd,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: CACHE, ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  if (answer !== undefined) {
    await waitFor(() => after.test(output), { what: `the output to have ${after}` });
    child.stdin.write(answer);
  }
  const status = await ended;
  child.stdin.destroy();
  return { status, output };
}

test.skipIf(!existsSync('/dev/full'))(
  'output that cannot be written is a failure, a log is none',
  async () => {
    expect(await shell(`${BIN} status > /dev/full`)).toEqual({
      status: 1,
      output: 'wa-replica: cannot write the output (ENOSPC)\n',
    });
    // It says on stderr that MEDIA_STORE is off.
    expect(await shell(`${BIN} media status 2> /dev/full`)).toEqual({
      status: 0,
      output: 'no attachments\n',
    });
  },
);

test('.env that is no file is a mistake in the configuration', async () => {
  const cwd = await mkdtemp(path.join(tmpdir(), 'wa-replica-cli-'));
  await mkdir(path.join(cwd, '.env'));
  const { status, output } = await shell(`${BIN} status`, { cwd });
  await rm(cwd, { recursive: true });
  expect(status).toBe(2);
  expect(output).toMatch(/^wa-replica: wrong configuration:\n {2}- \.env in this folder is no file .*\n$/);
});

test('.env is read under the environment, and a line of it that sets nothing is told of', async () => {
  const cwd = await mkdtemp(path.join(tmpdir(), 'wa-replica-cli-'));
  const lines = ['SECRET', `DATABASE_URL=${database.url}`, 'WA_REPLICA_SCHEMA=from_file'];
  await writeFile(path.join(cwd, '.env'), lines.join('\n'));
  const line = `unset DATABASE_URL; WA_REPLICA_SCHEMA=whatsapp ${BIN} gaps list`;
  const { status, output } = await shell(line, { cwd });
  await rm(cwd, { recursive: true });
  expect([status, output]).toEqual([
    0,
    'wa-replica: .env, line 1: is not of the form NAME=value, and sets nothing\nno gaps\n',
  ]);
});

/** A terminal of util-linux's `script`, which BSD's cannot stand for. */
const noTerminal = spawnSync('script', ['--version']).status !== 0;
const onTerminal = (command: string) => `script -qec '${command}' /dev/null`;

test.skipIf(noTerminal).each([
  ['Ctrl-C', '\u0003'],
  ['Ctrl-D', '\u0004'],
  ['n', 'n\r'],
  ['n, with the output elsewhere,', 'n\r', '> /dev/null'],
])('%s at a question is a no', async (_, answer, elsewhere = '') => {
  const command = onTerminal(`${BIN} resync --connection conn_a ${elsewhere}`);
  const { status, output } = await shell(command, { answer });
  expect([status, output]).toEqual([1, expect.stringMatching(/\nwa-replica: nothing was done\s*$/)]);
  expect(await database.query('select epoch from whatsapp.sync_state')).toEqual([{ epoch: 1 }]);
});

test.skipIf(noTerminal)('y at a question is a yes', async () => {
  const { status, output } = await shell(onTerminal(`${BIN} resync --connection conn_a`), { answer: 'y\r' });
  expect([status, output]).toEqual([0, expect.stringContaining('conn_a: epoch 2 begins at cursor 0')]);
  expect(await database.query('select epoch from whatsapp.sync_state')).toEqual([{ epoch: 2 }]);
});

test.skipIf(noTerminal)('status --watch draws over what it drew, all of it at once', async () => {
  const command = onTerminal(`exec ${BIN} status --watch`);
  const { status, output } = await shell(command, { answer: '\u0003', after: /workers:[\s\S]*workers:/ });
  expect(status).toBe(0);
  const [before, ...looks] = output.split('\u001b[H\u001b[J');
  expect([before, looks.length]).toEqual(['', expect.toSatisfy((count: number) => count >= 2)]);
  for (const look of looks)
    expect(look).toMatch(/^connection +state .*\r\n[\s\S]*workers: none alive; .*\r\n/);
});

test.skipIf(noTerminal)('what came is shown as it came, but a terminal is not moved by it', async () => {
  const record = '{"body":"a\u009b2Jb"}';
  const [entry] = await database.query(
    `insert into whatsapp.quarantine (connection_id, kind, error_code, record_sha256, record_json)
      values ('conn_a', 'message', 'x', 'x', $1) returning quarantine_id as id`,
    [record],
  );
  const show = `${BIN} quarantine show ${entry!.id}`;
  expect((await shell(show)).output).toContain(record);
  expect((await shell(onTerminal(show))).output).toContain('{"body":"a\uFFFD2Jb"}');
});

// `run` logs a line before it finds that this schema is not there.
test.skipIf(noTerminal).each(['status', 'doctor', 'run'])(
  '%s has colours on a terminal that shows them, unless nobody wants any',
  async (command) => {
    const given = `MIGRATE_ON_START=false WA_REPLICA_SCHEMA=${command === 'run' ? 'none' : 'whatsapp'}`;
    const coloured = async (more: string) =>
      (await shell(onTerminal(`${given} ${more} ${BIN} ${command}`))).output.includes('\u001b[3');
    expect(await coloured('TERM=xterm')).toBe(true);
    expect(await coloured('TERM=xterm NO_COLOR=1')).toBe(false);
    expect(await coloured('TERM=dumb')).toBe(false);
  },
);

test.skipIf(noTerminal)('progress stays on its line, on a narrow terminal too', async () => {
  const command = onTerminal(`stty cols 40; VERIFY_RATE=1000 ${BIN} verify`);
  const { status, output } = await shell(command);
  expect(status).toBe(0);
  const lines = output.split('\r\u001b[K').filter((line) => line.includes(' conversations, '));
  expect(lines.length).toBeGreaterThan(2);
  expect(Math.max(...lines.map((line) => line.length))).toBe(39);
});

test('lines for the journal have their priority before them, those for a file have not', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'wa-replica-test-'));
  const file = path.join(folder, 'stderr');
  await writeFile(file, '');
  const { dev, ino } = await stat(file, { bigint: true });
  // It has nothing to start with, and says only that it begins.
  const run = `WA_REPLICA_SCHEMA=none_here MIGRATE_ON_START=false HTTP_PORT=off ${BIN} run 2> "${file}"`;
  expect(await shell(`JOURNAL_STREAM=${dev}:${ino} ${run}`)).toEqual({ status: 1, output: '' });
  expect(await readFile(file, 'utf8')).toMatch(/^<6>{"level":"info",[^\n]*"msg":"starting"}\n/);
  // Led elsewhere than systemd has led it.
  expect(await shell(`JOURNAL_STREAM=${dev}:${ino + 1n} ${run}`)).toEqual({ status: 1, output: '' });
  expect(await readFile(file, 'utf8')).toMatch(/^{"level":"info",/);
  await rm(folder, { recursive: true });
});
