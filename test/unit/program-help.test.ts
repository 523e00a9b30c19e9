import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { createProgram } from '../../src/cli/program.ts';
import { SETTINGS } from '../../src/config/settings.ts';

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
