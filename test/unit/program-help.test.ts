import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { SETTINGS } from '../../src/config/settings.ts';
import { runCommand } from '../support/command.ts';

/** The lines that `--help` has of the settings. */
async function settingsHelp(columns?: number): Promise<string[]> {
  const stdout = new PassThrough();
  const stream = Object.assign(stdout, { columns }) as unknown as NodeJS.WriteStream;
  const terminal = { env: {}, stdout: stream, stderr: stream, signal: new AbortController().signal };
  await createProgram(terminal)
    .parseAsync(['node', 'wa-replica', '--help'])
    .catch(() => {});
  const [, settings = ''] = String(stdout.read()).split(/^Settings.*\n/m);
  return settings.trimEnd().split('\n');
}

test('the settings fit the terminal', async () => {
  const lines = await settingsHelp(80);
  expect(lines.length).toBeGreaterThan(Object.keys(SETTINGS).length);
  expect(lines.filter((line) => line.length > 80)).toEqual([]);
});

test('elsewhere each is a line', async () => {
  expect(await settingsHelp()).toHaveLength(Object.keys(SETTINGS).length);
});

describe('help', () => {
  const help = (...words: string[]) => runCommand(words, {});

  test.each([
    [['help', 'status'], 'Usage: wa-replica status'],
    [['help', 'quarantine', 'retry'], 'Usage: wa-replica quarantine retry'],
    [['quarantine', 'help', 'retry'], 'Usage: wa-replica quarantine retry'],
    [['quarantine', 'help'], 'Usage: wa-replica quarantine [options] [command]'],
    [['help'], 'Usage: wa-replica [options] [command]'],
    // What follows may be an argument.
    [['help', 'search', 'hello'], 'Usage: wa-replica search'],
  ])('%j', async (words, usage) => {
    const { status, stdout, stderr } = await help(...words);
    expect({ status, stderr, usage: stdout.slice(0, usage.length) }).toEqual({
      status: 0,
      stderr: '',
      usage,
    });
  });

  test.each([
    [['help', 'statsu'], `error: unknown command 'statsu'\n(Did you mean status?)\n(see --help)\n`],
    [['help', 'quarantine', 'rety'], `error: unknown command 'rety'\n(Did you mean retry?)\n(see --help)\n`],
    [['quarantine', 'help', 'rety'], `error: unknown command 'rety'\n(Did you mean retry?)\n(see --help)\n`],
  ])('%j', async (words, stderr) => {
    expect(await help(...words)).toEqual({ status: 2, stdout: '', stderr });
  });
});
