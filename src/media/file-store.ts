import { randomBytes } from 'node:crypto';
import type { Dirent } from 'node:fs';
import { mkdir, open, opendir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { absent, clearFolder } from './incoming.ts';
import { extensionOf } from './mime-types.ts';
import { judgeOwner, notThere, OWNER_FILE, type Owner, ownerText } from './owner.ts';
import { isOurs, pathOf } from './paths.ts';
import { fileDigest, type Spooled, storeError } from './spool.ts';
import type { Kept, MediaStore } from './store.ts';

/** The archive in a folder. Files come under a temporary name on the same disk and are renamed: one that has its name is
 * whole. */
export class FileStore implements MediaStore {
  readonly #folder: string;
  readonly #ownerFile: string;
  readonly incoming: string;

  constructor(folder: string) {
    this.#folder = path.resolve(folder);
    this.#ownerFile = path.join(this.#folder, OWNER_FILE);
    this.incoming = path.join(this.#folder, '.incoming');
  }

  locationOf(sha256: string, mimeType: string | null): string {
    return pathToFileURL(path.join(this.#folder, pathOf(sha256, extensionOf(mimeType)))).href;
  }

  async put(file: Spooled, location: string): Promise<void> {
    try {
      const target = this.#pathOf(location)!;
      // The same content, of another message; written anew where the disk has lost some of it.
      if (!(await holds(target, file))) {
        // Where the disk is not mounted any more, it would go into the folder below.
        await this.#mustBeThere('storing an attachment');
        await this.#makeFolders(path.dirname(target));
        await rename(file.path, target);
        await syncFolder(path.dirname(target));
        if (!(await holds(target, file))) throw Object.assign(new Error(), { code: 'MISMATCH' });
      }
    } catch (error) {
      throw storeError(error, 'storing an attachment');
    } finally {
      await rm(file.path, { force: true }).catch(() => {});
    }
  }

  async has(location: string): Promise<boolean | undefined> {
    const target = this.#pathOf(location);
    if (target === undefined) return undefined;
    try {
      return (await stat(target).catch(absent(() => undefined))) !== undefined;
    } catch (error) {
      throw storeError(error, 'looking for an attachment');
    }
  }

  async remove(location: string): Promise<boolean> {
    const target = this.#pathOf(location);
    if (target === undefined) return false;
    try {
      // On a disk that is not mounted it would pass for removed.
      await this.#mustBeThere('removing an attachment');
      await rm(target, { force: true });
      return true;
    } catch (error) {
      throw storeError(error, 'removing an attachment');
    }
  }

  async *keptBefore(time: Date): AsyncIterable<Kept> {
    try {
      for await (const first of entries(this.#folder)) {
        if (!/^[0-9a-f]{2}$/.test(first.name)) continue;
        for await (const second of entries(path.join(this.#folder, first.name))) {
          for await (const { name } of entries(path.join(this.#folder, first.name, second.name))) {
            const inside = `${first.name}/${second.name}/${name}`;
            const file = path.join(this.#folder, inside);
            const found = isOurs(inside) ? await stat(file).catch(absent(() => undefined)) : undefined;
            if (found === undefined || found.mtime >= time) continue;
            yield { location: pathToFileURL(file).href, modifiedAt: found.mtime };
          }
        }
      }
    } catch (error) {
      throw storeError(error, 'reading the archive');
    }
  }

  async clearIncoming(time: Date): Promise<number> {
    try {
      return await clearFolder(this.incoming, time);
    } catch (error) {
      throw storeError(error, 'reading the archive');
    }
  }

  async check(owner: Owner): Promise<void> {
    try {
      await makeFolder(this.incoming);
      const text = await readFile(this.#ownerFile, 'utf8').catch(absent(() => undefined));
      const root = pathToFileURL(path.join(this.#folder, path.sep)).href;
      if (!(await judgeOwner(owner, text, root))) return await this.#tryWriting();
      const handle = await open(this.#ownerFile, 'w', 0o640);
      try {
        await handle.writeFile(ownerText(owner));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await syncFolder(this.#folder);
    } catch (error) {
      throw storeError(error, 'opening the archive');
    }
  }

  close(): void {}

  async #mustBeThere(where: string): Promise<void> {
    await stat(this.#ownerFile).catch(absent(() => Promise.reject(notThere(where))));
  }

  /** A page of a file: a disk that is full or read-only says so. */
  async #tryWriting(): Promise<void> {
    const file = path.join(this.incoming, `check-${randomBytes(6).toString('hex')}`);
    try {
      const handle = await open(file, 'w', 0o640);
      try {
        await handle.writeFile(Buffer.alloc(4096));
        await handle.sync();
      } finally {
        await handle.close();
      }
    } finally {
      await rm(file, { force: true });
    }
  }

  /** Undefined for a location that is not one of this store's files. */
  #pathOf(location: string): string | undefined {
    if (!location.startsWith('file:')) return undefined;
    const file = fileURLToPath(location);
    const inside = path.relative(this.#folder, file).replaceAll(path.sep, '/');
    return isOurs(inside) ? path.join(this.#folder, inside) : undefined;
  }

  /** Each new folder's name is on the disk too, before a file in it is told of. */
  async #makeFolders(folder: string): Promise<void> {
    const first = await mkdir(folder, { recursive: true, mode: 0o750 });
    if (first === undefined) return;
    for (let at = folder; at.length >= first.length; at = path.dirname(at))
      await syncFolder(path.dirname(at));
  }
}

async function holds(file: string, { bytes, sha256 }: Spooled): Promise<boolean> {
  const found = await stat(file).catch(absent(() => undefined));
  if (found?.size !== bytes) return false;
  return (await fileDigest(file)).sha256 === sha256;
}

/**
 * Makes a folder and those above it, one by one. Node's own way never ends, at full load, where a file system says that
 * a folder is not there which is, as /proc does to whoever makes something in it.
 */
async function makeFolder(folder: string): Promise<void> {
  const above: string[] = [];
  for (let at = folder; at !== above.at(-1); at = path.dirname(at)) above.push(at);
  for (const at of above.reverse()) {
    const there = await stat(at).catch(absent(() => undefined));
    if (there !== undefined) continue;
    await mkdir(at, { mode: 0o750 }).catch((error: NodeJS.ErrnoException) => {
      // Another worker starts at the same moment.
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What is in a folder; nothing where it is none. */
async function* entries(folder: string): AsyncIterable<Dirent> {
  try {
    yield* await opendir(folder);
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}
