import { execFile } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const ROOT = path.join(import.meta.dirname, '../..');
/** Below node_modules: git and the linter leave it alone, and the packages are found from there. */
export const CACHE = path.join(ROOT, 'node_modules/.cache/wa-replica-bench');

/** The program as it is shipped: compiled, since the loader of `.ts` files costs memory that no user pays. */
export interface Build {
  /** The entry of the command line. */
  readonly bin: string;
  remove(): void;
}

/** Compiles the sources as they stand into a folder of this process's own; `dist` may be anybody's. */
export async function build(): Promise<Build> {
  const folder = path.join(CACHE, `build-${process.pid}`);
  const bin = path.join(folder, 'src/bin.js');
  await mkdir(CACHE, { recursive: true });
  sweep();
  const tsc = path.join(ROOT, 'node_modules/.bin/tsc');
  // Whether its types are right is not asked here: they do not keep it from running.
  const args = ['-p', 'tsconfig.build.json', '--noCheck', '--outDir', folder];
  try {
    await promisify(execFile)(tsc, args, { cwd: ROOT });
  } catch (error) {
    throw new Error(`the sources do not compile:\n${(error as { stdout?: string }).stdout ?? error}`);
  }
  return { bin, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** Removes what killed runs have left. */
function sweep(): void {
  for (const name of readdirSync(CACHE)) {
    const pid = /^build-(\d+)$/.exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    rmSync(path.join(CACHE, name), { recursive: true, force: true });
  }
}
