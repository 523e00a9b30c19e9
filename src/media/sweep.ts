import type { Db } from '../store/database.ts';
import { removeFiles } from './removal.ts';
import type { MediaStore } from './store.ts';

/** What nothing refers to stays so long, in milliseconds: a download that is under way is younger. */
const KEEP_ORPHANS = 24 * 3_600_000;

/** Files that are looked up, and removed, at a time. */
const AT_ONCE = 500;

export interface Swept {
  /** Files that nothing referred to. */
  readonly orphans: number;
  /** Beginnings of files, left by downloads that were killed. */
  readonly incoming: number;
}

/**
 * Removes what is in the store and nowhere in the database: files of downloads that were killed before they could say
 * so, of attachments that were replaced, and of messages that were erased or redacted.
 * @param keep how old an orphan gets, in milliseconds.
 */
export async function sweep(
  db: Db,
  store: MediaStore,
  signal: AbortSignal,
  keep = KEEP_ORPHANS,
): Promise<Swept> {
  const before = new Date(Date.now() - keep);
  const incoming = await store.clearIncoming(before);
  let orphans = 0;
  let batch: string[] = [];
  for await (const { location } of store.keptBefore(before)) {
    if (signal.aborted) break;
    batch.push(location);
    if (batch.length < AT_ONCE) continue;
    orphans += (await removeFiles(db, store, batch)).removed;
    batch = [];
  }
  orphans += (await removeFiles(db, store, batch)).removed;
  return { orphans, incoming };
}
