import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { PASSFILE_PERMISSIONS } from '../errors/codes.ts';
import { type Login, passwordIn } from '../lib/passfile.ts';

/** Permissions of others than the owner. */
const OF_OTHERS = 0o077;

/**
 * The password that libpq's password file has for a login: the file of PGPASSFILE, else `~/.pgpass`. Undefined where
 * there is none, or no such file; one that cannot be read counts as none. Found in the process's environment, as pg
 * finds libpq's other variables.
 * @throws an error of the code PASSFILE_PERMISSIONS where others may read the file, which libpq then ignores.
 */
export async function passwordFromFile(login: Login): Promise<string | undefined> {
  let text: string;
  try {
    const file = process.env.PGPASSFILE || path.join(homedir(), '.pgpass');
    const stats = await stat(file);
    // Reading a pipe might never end.
    if (!stats.isFile()) return undefined;
    if ((stats.mode & OF_OTHERS) !== 0) throw new OpenPassfile();
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof OpenPassfile) throw error;
    return undefined;
  }
  return passwordIn(text, login);
}

class OpenPassfile extends Error {
  override name = 'OpenPassfile';
  readonly code = PASSFILE_PERMISSIONS;
}
