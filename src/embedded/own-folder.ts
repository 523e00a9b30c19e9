import { constants } from 'node:fs';
import { chmod, lstat, mkdir, stat, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { isRoot } from './account.ts';
import { EmbeddedPostgresError, errorCode } from './errors.ts';

/**
 * Where things go that cannot stay where they were asked for: folders that an unprivileged account can
 * reach. `/var/tmp` comes last: systemd deletes there, file by file, what nobody used for 30 days.
 */
export function candidates(kind: 'cache' | 'data'): string[] {
  const uid = process.geteuid?.() ?? 0;
  const temporary = [`/var/tmp/wa-replica-${uid}`, path.join(tmpdir(), `wa-replica-${uid}`)];
  if (isRoot()) return [kind === 'cache' ? '/var/cache/wa-replica' : '/var/lib/wa-replica', ...temporary];
  const home = homeFor(kind);
  return home === undefined ? temporary : [path.join(home, 'wa-replica'), ...temporary];
}

function homeFor(kind: 'cache' | 'data'): string | undefined {
  const xdg = kind === 'cache' ? process.env.XDG_CACHE_HOME : process.env.XDG_DATA_HOME;
  if (xdg) return xdg;
  try {
    return path.join(homedir(), kind === 'cache' ? '.cache' : '.local/share');
  } catch {
    // A uid of a container's that no passwd file knows.
    return undefined;
  }
}

/**
 * Makes the folder (mode 0755) unless it is there, and says whether it can be trusted: a real folder, our
 * own, writable for us alone. In `/var/tmp` anybody may have made that name first.
 */
export async function claim(folder: string): Promise<boolean> {
  try {
    const made = await mkdir(folder, { recursive: true });
    // The umask may have closed it; only what was made here is opened again.
    if (made !== undefined) await chmod(folder, 0o755);
    const found = await lstat(folder);
    return found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o022) === 0;
  } catch (error) {
    const refused = ['EACCES', 'EPERM', 'EROFS', 'EEXIST', 'ENOTDIR', 'ENOENT', 'ENOSPC'];
    if (refused.includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

/**
 * Makes a folder and those above it, one by one. Node's own way never ends, at full load, where a file system says that
 * a folder is not there which is, as /proc does to whoever makes something in it.
 * @returns whether it was made here.
 * @throws EmbeddedPostgresError where it cannot be.
 */
export async function makeFolder(folder: string): Promise<boolean> {
  if (await stat(folder).catch(() => undefined)) return false;
  if (path.dirname(folder) !== folder) await makeFolder(path.dirname(folder));
  try {
    await mkdir(folder);
    return true;
  } catch (error) {
    // Another process starts at the same moment.
    if (errorCode(error) === 'EEXIST') return false;
    throw new EmbeddedPostgresError(
      `The folder ${folder} cannot be made (${errorCode(error)}).`,
      'Choose another for the database.',
    );
  }
}

/** Writes a file in a folder that may be somebody else's: root is not led through a symlink to a file of its own. */
export async function overwrite(file: string, text: string): Promise<void> {
  const flag = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
  await writeFile(file, text, { flag, mode: 0o600 });
}
