import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ENDING = new URL('../../src/cli/ending.ts', import.meta.url).href;

/** What a process says that would go on for ever. */
async function run(code: string): Promise<string> {
  const text = `import { endAnyway } from '${ENDING}'; const stopping = new AbortController(); ${code}`;
  const args = ['--input-type=module', '-e', text];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 30_000 });
  return stdout;
}

test('what hangs is ended in time, with the exit status that was to be', async () => {
  const hangs = 'setInterval(() => {}, 1000); endAnyway(stopping.signal, 400);';
  expect(await run(`${hangs} stopping.abort();`)).toBe('');
  await expect(run(`${hangs} process.exitCode = 3; stopping.abort();`)).rejects.toMatchObject({ code: 3 });
});

test('before the signal nothing is ended, and what ends by itself is not held up', async () => {
  const longer = `setTimeout(() => console.log('done'), 600);`;
  expect(await run(`endAnyway(stopping.signal, 200); ${longer}`)).toBe('done\n');
  const started = performance.now();
  await run('endAnyway(stopping.signal, 29_000); stopping.abort();');
  expect(performance.now() - started).toBeLessThan(29_000);
});
