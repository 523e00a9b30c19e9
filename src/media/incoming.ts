import { readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';

/** Removes the files of a folder that were last written before a time: of downloads that were killed.
 * @returns how many. */
export async function clearFolder(folder: string, time: Date): Promise<number> {
  let removed = 0;
  for (const name of await readdir(folder).catch(absent(() => []))) {
    const file = path.join(folder, name);
    const found = await stat(file).catch(absent(() => undefined));
    if (found === undefined || !found.isFile() || found.mtime >= time) continue;
    await rm(file, { force: true });
    removed++;
  }
  return removed;
}

/** For a look at what may not be there. */
export function absent<T>(instead: () => T): (error: unknown) => T {
  return (error) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return instead();
    throw error;
  };
}
