import { randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import {
  chmod,
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import path from 'node:path';
import { errorCode } from './errors.ts';

/** The programs of a native folder that we run. */
const PROGRAMS = ['postgres', 'initdb', 'pg_ctl'];

const READ_ONLY = ['EACCES', 'EPERM', 'EROFS'];

/** npm's tarballs hold no symlinks: the package lists them, for an install script that may never have run. */
async function linksOf(native: string): Promise<{ source: string; target: string }[]> {
  const text = await readFile(path.join(native, 'pg-symlinks.json'), 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return '[]';
    throw error;
  });
  const listed = JSON.parse(text) as { source: string; target: string }[];
  const inside = (file: string) => path.join(native, path.relative('native', file));
  return listed.map(({ source, target }) => ({ source: inside(source), target: inside(target) }));
}

/**
 * Adds to a native folder what its install script would have: symlinks and executable bits. What is there
 * already stays; two processes may do it at once. False where the folder is not ours to write.
 */
export async function complete(native: string): Promise<boolean> {
  try {
    for (const { source, target } of await linksOf(native)) {
      await symlink(path.relative(path.dirname(target), source), target).catch((error: unknown) => {
        if (errorCode(error) !== 'EEXIST') throw error;
      });
    }
    for (const program of PROGRAMS) {
      const file = path.join(native, 'bin', program);
      const { mode } = await stat(file);
      if ((mode & 0o111) === 0) await chmod(file, (mode & 0o777) | 0o111);
    }
    return true;
  } catch (error) {
    if (READ_ONLY.includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

/** Relative path → entry, of everything below a folder. */
async function filesBelow(folder: string): Promise<Map<string, Stats>> {
  const names = await readdir(folder, { recursive: true });
  return new Map(
    await Promise.all(names.map(async (name) => [name, await lstat(path.join(folder, name))] as const)),
  );
}

/** Whether a copy still has every file of the original: a cleaner of temporary files may have passed. */
async function isWhole(copy: string, original: string): Promise<boolean> {
  const [have, want] = await Promise.all([
    filesBelow(copy).catch(() => new Map<string, Stats>()),
    filesBelow(original),
  ]);
  for (const [name, { size }] of [...want].filter(([, entry]) => entry.isFile())) {
    if (have.get(name)?.size !== size) return false;
  }
  return (await linksOf(copy)).every(({ target }) => have.has(path.relative(copy, target)));
}

/**
 * Copies a native folder to `target`, once, readable for everybody: built beside it under a name of its
 * own and renamed, so that no process ever sees half of it. `target`'s parent must be a claimed folder.
 */
export async function copyOnce(native: string, target: string): Promise<void> {
  if (await isWhole(target, native)) return;
  const staging = `${target}.${randomBytes(6).toString('hex')}`;
  try {
    await mkdir(staging);
    await chmod(staging, 0o755);
    for (const [name, entry] of await filesBelow(native)) {
      const to = path.join(staging, name);
      if (entry.isDirectory()) {
        await mkdir(to, { recursive: true });
        await chmod(to, 0o755);
      } else if (entry.isFile()) {
        await mkdir(path.dirname(to), { recursive: true });
        await copyFile(path.join(native, name), to, constants.COPYFILE_FICLONE);
        await chmod(to, (entry.mode & 0o111) === 0 ? 0o644 : 0o755);
      }
    }
    await complete(staging);
    await publish(staging, target, native);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function publish(staging: string, target: string, native: string): Promise<void> {
  for (;;) {
    try {
      return await rename(staging, target);
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
    }
    // Another process was faster, or a damaged copy is in the way.
    if (await isWhole(target, native)) return;
    const aside = `${staging}.old`;
    await rename(target, aside).catch((error: unknown) => {
      if (errorCode(error) !== 'ENOENT') throw error;
    });
    await rm(aside, { recursive: true, force: true });
  }
}
