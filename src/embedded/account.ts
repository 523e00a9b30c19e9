import { readFile, stat } from 'node:fs/promises';
import { EmbeddedPostgresError } from './errors.ts';

/** An unprivileged user of this machine under which the server runs. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** In order of preference: Debian's and the official images' name, Apple's, and what every Unix has. */
const NAMES = ['postgres', '_postgres', 'nobody'];

/** Whether this process is root, for whom `initdb` and `postgres` refuse to run. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** The users of a passwd file that can run a server, best first. */
export function accountsIn(passwd: string): Account[] {
  const accounts: Account[] = [];
  for (const line of passwd.split('\n')) {
    const [name = '', , uid = '', gid = ''] = line.split(':');
    if (!/^-?\d+$/.test(uid) || !/^-?\d+$/.test(gid) || Number(uid) === 0) continue;
    accounts.push({ name, uid: Number(uid), gid: Number(gid) });
  }
  return NAMES.flatMap((name) => accounts.find((account) => account.name === name) ?? []);
}

/**
 * Under which account a new server is to run: undefined for this process's own, which is right for
 * everybody but root. For root an account that exists already; none is ever created.
 */
export async function accountForNewData(passwdFile = '/etc/passwd'): Promise<Account | undefined> {
  if (!isRoot()) return undefined;
  const passwd = await readFile(passwdFile, 'utf8').catch(() => '');
  const [account] = accountsIn(passwd);
  if (account) return account;
  throw new EmbeddedPostgresError(
    'PostgreSQL refuses to run as root, and this machine has neither an account "postgres" nor "nobody".',
    'Start as another user, or set DATABASE_URL to a server of yours.',
  );
}

/**
 * Under which account a server on existing data must run: root takes the data's owner instead of
 * giving the data to somebody else, so a folder made by a user stays that user's.
 */
export async function accountForData(data: string): Promise<Account | undefined> {
  const owner = await stat(data);
  if (!isRoot()) {
    if (owner.uid === process.geteuid?.()) return undefined;
    throw new EmbeddedPostgresError(
      `The database in ${data} belongs to another user (uid ${owner.uid}).`,
      'Start as that user or as root, or choose another folder.',
    );
  }
  if (owner.uid !== 0) return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid };
  throw new EmbeddedPostgresError(
    `The database in ${data} belongs to root, under whom PostgreSQL refuses to run.`,
    'Give it to an unprivileged user, or choose another folder.',
  );
}
