import { createHash, randomBytes } from 'node:crypto';
import {
  chmod,
  lchown,
  lstat,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { type Account, accountForData, accountForNewData, isRoot } from './account.ts';
import { type Binaries, prepareBinaries } from './binaries.ts';
import { canEnter, run } from './command.ts';
import { EmbeddedPostgresError, errorCode } from './errors.ts';
import { candidates, claim, makeFolder } from './own-folder.ts';
import { ROLE } from './postmaster.ts';

/** A database cluster on disk, and what it takes to run it. */
export interface Cluster {
  /** `DIR/postgres`; a symlink where the account cannot reach DIR. */
  readonly home: string;
  /** PGDATA: all that belongs to the account. */
  readonly data: string;
  readonly passwordFile: string;
  readonly password: string;
  readonly account: Account | undefined;
  readonly binaries: Binaries;
}

export interface ClusterOptions {
  readonly dir: string;
  readonly log?: (line: string) => void;
  /** For throw-away clusters: initdb does not wait for the disk. */
  readonly sync?: boolean;
}

/** How long making a cluster takes at the very most, in milliseconds. */
const MAKING_TAKES = 3_600_000;

const EXISTS = ['EEXIST', 'ENOTEMPTY', 'ENOTDIR'];

/** Opens the cluster of a folder, making folder and cluster where there is none. */
export async function openCluster(options: ClusterOptions): Promise<Cluster> {
  const dir = path.resolve(options.dir);
  const home = path.join(dir, 'postgres');
  await removeUnfinished(home);
  if (!(await exists(home))) {
    const made = await makeFolder(dir);
    // As root the account must get through; the password and the data have modes of their own.
    if (made) await chmod(dir, isRoot() ? 0o755 : 0o700);
    await create(home, options);
    // It has just said what there is to say.
    return await existing(home, { dir });
  }
  return await existing(home, options);
}

/** Removes what was being made by processes that were killed; what may still be being made is left alone. */
async function removeUnfinished(home: string): Promise<void> {
  const dir = path.dirname(home);
  const names = await readdir(dir).catch(() => []);
  for (const name of names.filter((one) => one.startsWith(path.basename(nameFor(home, ''))))) {
    const place = path.join(dir, name);
    try {
      const { mtimeMs } = await lstat(place);
      if (Date.now() - mtimeMs > MAKING_TAKES) await rm(place, { recursive: true, force: true });
    } catch {
      // Somebody else's, or gone: it is in nobody's way.
    }
  }
}

/** What a cluster is called while it is made. */
function nameFor(home: string, random: string): string {
  return `${home}.new-${random}`;
}

/** The data folder of a cluster that may or may not exist. */
export function dataFolder(dir: string): string {
  return path.join(path.resolve(dir), 'postgres', 'data');
}

/** Deletes a folder's cluster, its real place included. No server may run on it. */
export async function removeCluster(dir: string): Promise<void> {
  const home = path.join(path.resolve(dir), 'postgres');
  const place = await realpath(home).catch(() => home);
  // A link is followed only to where we put databases: it might be somebody's trap for root.
  if (candidates('data').includes(path.dirname(place))) await rm(place, { recursive: true, force: true });
  await rm(home, { recursive: true, force: true });
}

async function exists(file: string): Promise<boolean> {
  try {
    await lstat(file);
    return true;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

async function existing(home: string, options: ClusterOptions): Promise<Cluster> {
  const place = await realpath(home).catch((error: unknown) => {
    if (errorCode(error) !== 'ENOENT') throw error;
    throw new EmbeddedPostgresError(
      `${home} points to a database that is no longer there.`,
      `Delete ${home} to begin with an empty one.`,
    );
  });
  const data = path.join(place, 'data');
  const version = (await readPart(path.join(data, 'PG_VERSION'))).trim();
  const passwordFile = path.join(place, 'password');
  const password = /([^:\n]*)\n?$/.exec(await readPart(passwordFile))?.[1] ?? '';
  const account = await accountForData(data);
  const binaries = await prepareBinaries(account, options);
  if (version !== String(binaries.major)) {
    throw new EmbeddedPostgresError(
      `The database in ${home} was made by PostgreSQL ${version}, and these are the programs of PostgreSQL ${binaries.major}.`,
      'Move that folder away to begin anew, or run the older release, save it with pg_dump and restore it.',
    );
  }
  return { home, data, passwordFile, password, account, binaries };
}

/** Reads what every cluster has. */
async function readPart(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const known = { ENOENT: 'is missing', EACCES: 'may not be read by this user' };
    const what = known[errorCode(error) as keyof typeof known];
    if (what === undefined) throw error;
    throw new EmbeddedPostgresError(
      `There is a database, but ${file} ${what}.`,
      what === known.ENOENT
        ? 'Restore it, or move that folder away to begin anew.'
        : 'Start as the user that the folder belongs to, or choose another folder.',
    );
  }
}

/**
 * Builds a cluster under a temporary name and publishes it with one rename: a killed initdb leaves nothing
 * that looks like a database, and of two processes one wins. Where the account cannot enter DIR, the cluster
 * is built in a place that it can reach, and DIR gets a symlink to it; nobody's permissions are changed.
 */
async function create(home: string, options: ClusterOptions): Promise<void> {
  const account = await accountForNewData();
  const binaries = await prepareBinaries(account, options);
  const random = randomBytes(6).toString('hex');
  const besides = nameFor(home, random);
  if (await stake(besides, account)) {
    await build(besides, account, binaries, options);
    await publish(besides, () => rename(besides, home));
    return;
  }
  const name = `${createHash('sha256').update(home).digest('hex').slice(0, 12)}-${random}`;
  for (const parent of candidates('data')) {
    const elsewhere = path.join(parent, name);
    if (!(await claim(parent)) || !(await stake(elsewhere, account))) continue;
    await build(elsewhere, account, binaries, options);
    await publish(elsewhere, () => symlink(elsewhere, home));
    options.log?.(`the database is in ${elsewhere}: ${account?.name ?? 'the server'} cannot reach ${home}`);
    return;
  }
  throw new EmbeddedPostgresError(
    `The account ${account?.name ?? 'of this process'} can reach neither ${path.dirname(home)} nor any of ${candidates('data').join(', ')}.`,
    'Choose a folder below one that everybody may enter.',
  );
}

/** Makes the place and the data folder in it, gives the latter to the account, and looks if it gets in. */
async function stake(place: string, account: Account | undefined): Promise<boolean> {
  const data = path.join(place, 'data');
  await mkdir(place);
  await chmod(place, account ? 0o755 : 0o700);
  await mkdir(data, { mode: 0o700 });
  if (account) await lchown(data, account.uid, account.gid);
  if (await canEnter(data, account)) return true;
  await rm(place, { recursive: true, force: true });
  return false;
}

async function build(
  place: string,
  account: Account | undefined,
  binaries: Binaries,
  options: ClusterOptions,
): Promise<void> {
  const password = randomBytes(24).toString('hex');
  const forInitdb = path.join(place, 'initdb-password');
  await writeFile(forInitdb, `${password}\n`, { mode: 0o600, flag: 'wx' });
  if (account) await lchown(forInitdb, account.uid, account.gid);
  const { ok, output } = await run(
    binaries.initdb,
    [
      `--pgdata=${path.join(place, 'data')}`,
      `--username=${ROLE}`,
      `--pwfile=${forInitdb}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // Sorts by code point like C, but knows upper and lower case beyond ASCII.
      ...['--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
      ...(options.sync === false ? ['--no-sync'] : []),
    ],
    account,
  );
  if (!ok) {
    await rm(place, { recursive: true, force: true });
    throw new EmbeddedPostgresError(
      `initdb failed:\n${output}\n`,
      'Mend what it names, or set DATABASE_URL to a server of yours.',
    );
  }
  await rm(forInitdb);
  // In libpq's format, so that psql can be pointed at it instead of being given a password to show around.
  await writeFile(path.join(place, 'password'), `*:*:*:${ROLE}:${password}\n`, { mode: 0o600, flag: 'wx' });
}

/** Gives the finished cluster its name; who comes second drops its own and takes the first one's. */
async function publish(place: string, give: () => Promise<void>): Promise<void> {
  try {
    await give();
  } catch (error) {
    await rm(place, { recursive: true, force: true });
    if (!EXISTS.includes(errorCode(error) ?? '')) throw error;
  }
}
