import type { Db } from '../store/database.ts';
import { refetchRemoved, unreferredAmong } from '../store/media-files.ts';
import type { MediaStore } from './store.ts';

/**
 * Removes files that nothing refers to, after the transaction that let go of them. Those that something refers to stay;
 * those that a download came to refer to meanwhile are fetched again. Doing it twice is harmless, and what is not done
 * the sweep does.
 * @returns how many were removed.
 * @throws ReplicaError `media_store`; what Postgres throws.
 */
export async function removeFiles(db: Db, store: MediaStore, locations: readonly string[]): Promise<number> {
  if (locations.length === 0) return 0;
  const free = await unreferredAmong(db, locations);
  try {
    for (const location of free) await store.remove(location);
  } finally {
    if (free.length > 0) await refetchRemoved(db, free);
  }
  return free.length;
}
