import pLimit from 'p-limit';
import type { Db } from '../store/database.ts';
import { refetchLost, type StoredAt, storedAttachments } from '../store/media-files.ts';
import type { MediaStore } from './store.ts';

/** Attachments that are read, and files that are looked for, at a time. */
const AT_ONCE = 500;
const LOOKS_AT_ONCE = 8;

/**
 * Has attachments fetched again whose rows say that they are stored and whose files are not there: whoever removed them
 * was killed before it could see that a download had come to share them, or somebody deleted them by hand. What the
 * upstream has forgotten is left as it is: it would only be lost for good where the store is at fault.
 * @param window how long the upstream serves a message, in milliseconds.
 * @returns how many.
 * @param store checked before: one that is not mounted has none of them.
 * @throws ReplicaError `media_store`.
 */
export async function refetchMissing(
  db: Db,
  store: MediaStore,
  window: number,
  signal: AbortSignal,
): Promise<number> {
  const limit = pLimit(LOOKS_AT_ONCE);
  let refetched = 0;
  for (let after: StoredAt | undefined; !signal.aborted; ) {
    const rows = await storedAttachments(db, window, after, AT_ONCE);
    const found = await Promise.all(rows.map(({ location }) => limit(() => store.has(location))));
    const lost = rows.filter((_, at) => found[at] === false);
    if (lost.length > 0) refetched += await refetchLost(db, lost);
    after = rows.at(-1);
    if (after === undefined) break;
  }
  return refetched;
}
