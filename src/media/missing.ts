import pLimit from 'p-limit';
import { ReplicaError } from '../errors.ts';
import type { Db } from '../store/database.ts';
import { refetchLost, type StoredAt, storedAttachments } from '../store/media-files.ts';
import type { MediaStore } from './store.ts';

/** Attachments that are read, and files that are looked for, at a time. */
const AT_ONCE = 500;
const LOOKS_AT_ONCE = 8;

/** So many files that are missing while none is there are a store that is not the right one, or not mounted. */
const TOO_MANY = 20;

/**
 * Has attachments fetched again whose rows say that they are stored and whose files are not there: whoever removed them
 * was killed before it could see that a download had come to share them, or somebody deleted them by hand. What the
 * upstream has forgotten is left as it is: it would only be lost for good where the store is at fault.
 * @param window how long the upstream serves a message, in milliseconds.
 * @returns how many.
 * @throws ReplicaError `media_store`, also where nothing at all is there: nothing of that was changed.
 */
export async function refetchMissing(
  db: Db,
  store: MediaStore,
  window: number,
  signal: AbortSignal,
): Promise<number> {
  const limit = pLimit(LOOKS_AT_ONCE);
  let lost: StoredAt[] = [];
  let isThere = false;
  let refetched = 0;
  for (let after: StoredAt | undefined; !signal.aborted; ) {
    const rows = await storedAttachments(db, window, after, AT_ONCE);
    after = rows.at(-1);
    const found = await Promise.all(rows.map(({ location }) => limit(() => store.has(location))));
    if (found.includes(true)) isThere = true;
    lost.push(...rows.filter((_, at) => found[at] === false));
    if (!isThere && lost.length >= TOO_MANY) throw nothingThere();
    if (lost.length > 0 && (isThere || after === undefined)) {
      refetched += await refetchLost(db, lost);
      lost = [];
    }
    if (after === undefined) break;
  }
  return refetched;
}

function nothingThere(): ReplicaError {
  const hint = 'none of the stored files is there: check MEDIA_STORE, and that its disk is mounted';
  return new ReplicaError('media_store', { where: 'looking for stored attachments', code: 'EMPTY', hint });
}
