import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { accountForData, accountsIn, isRoot } from '../../src/embedded/account.ts';
import { claim } from '../../src/embedded/own-folder.ts';

const folder = path.join(tmpdir(), `wa-replica-unit-${randomBytes(6).toString('hex')}`);
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('the account', () => {
  const nobody = 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin';
  const postgres = 'postgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash';

  test('is postgres where there is one, else nobody', () => {
    const names = (...lines: string[]) => accountsIn(lines.join('\n')).map(({ name }) => name);
    expect(names('root:x:0:0::/root:/bin/sh', nobody, postgres)).toEqual(['postgres', 'nobody']);
    expect(names('root:x:0:0::/root:/bin/sh', nobody, '')).toEqual(['nobody']);
    expect(names('root:x:0:0::/root:/bin/sh', 'broken line', 'postgres:x:::')).toEqual([]);
  });

  test('is never one with the powers of root', () => {
    expect(accountsIn('postgres:x:0:0::/:/bin/sh')).toEqual([]);
  });

  test.runIf(isRoot())('is the owner of existing data, when root starts it', async () => {
    await mkdir(folder);
    await chown(folder, 12345, 23456);
    expect(await accountForData(folder)).toMatchObject({ uid: 12345, gid: 23456 });
    await chown(folder, 0, 0);
    await expect(accountForData(folder)).rejects.toThrow('choose another folder');
  });
});

describe('a folder outside', () => {
  test('is made readable for everybody, whatever the umask, and claimed again', async () => {
    const before = process.umask(0o077);
    expect(await claim(folder)).toBe(true);
    process.umask(before);
    expect(await claim(folder)).toBe(true);
  });

  test('is not trusted where others can write', async () => {
    await mkdir(folder);
    await chmod(folder, 0o777);
    expect(await claim(folder)).toBe(false);
  });

  test.runIf(isRoot())('is not trusted where somebody else made it first', async () => {
    await mkdir(folder);
    await chown(folder, 65534, 65534);
    expect(await claim(folder)).toBe(false);
  });
});
