import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isAlive } from '../../src/embedded/postmaster.ts';

const MEMORY = '/dev/shm';
const ENOUGH_BYTES = 2 * 1024 ** 3;

/** Making a database is making 300 files: in memory, where there is plenty of it, that is far quicker. */
function parent(): string {
  try {
    const { bavail, bsize } = statfsSync(MEMORY);
    if (bavail * bsize > ENOUGH_BYTES) return MEMORY;
  } catch {
    // Not a Linux, or a container without it.
  }
  return tmpdir();
}

/**
 * The name of a folder for a throw-away server; nothing is there yet. Not mkdtemp: its folders are closed to
 * the account that a server of root's runs under.
 */
export function scratchFolder(): string {
  return path.join(parent(), `wa-replica-test-${process.pid}-${randomBytes(4).toString('hex')}`);
}

/** The folders of processes that were killed before they could clear them away. */
export async function abandonedFolders(): Promise<string[]> {
  const abandoned: string[] = [];
  for (const place of new Set([parent(), tmpdir()])) {
    for (const name of readdirSync(place)) {
      const pid = /^wa-replica-test-(\d+)-[0-9a-f]+$/.exec(name)?.[1];
      if (!pid || (await isAlive(Number(pid)))) continue;
      const folder = path.join(place, name);
      if (lstatSync(folder, { throwIfNoEntry: false })?.uid === process.geteuid?.()) abandoned.push(folder);
    }
  }
  return abandoned;
}
