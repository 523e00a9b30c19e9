import type { Db } from '../store/database.ts';
import { refetchRemoved, unreferredAmong } from '../store/media-files.ts';
import type { MediaStore } from './store.ts';

export interface Removal {
  readonly removed: number;
  /** What is in another store than this one, and still there: whoever has let go of it is the last to know where. */
  readonly elsewhere: readonly string[];
}

/**
 * Removes files that nothing refers to, after the transaction that let go of them. Those that something refers to stay;
 * those that a download came to refer to meanwhile are fetched again. Doing it twice is harmless, and what is not done
 * the sweep does.
 * @throws ReplicaError `media_store`; what Postgres throws.
 */
export async function removeFiles(db: Db, store: MediaStore, locations: readonly string[]): Promise<Removal> {
  if (locations.length === 0) return { removed: 0, elsewhere: [] };
  const free = await unreferredAmong(db, locations);
  const elsewhere: string[] = [];
  try {
    for (const location of free) if (!(await store.remove(location))) elsewhere.push(location);
  } finally {
    if (free.length > 0) await refetchRemoved(db, free);
  }
  return { removed: free.length - elsewhere.length, elsewhere };
}
