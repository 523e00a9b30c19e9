import { ReplicaError } from '../../errors.ts';
import type { MediaStore } from '../../media/store.ts';
import { type Finding, ok, problem } from './finding.ts';

/** Checks that the store can be written, and that it is this replica's.
 * @param identity of the replica; undefined where its database is not known: the store is left alone then. */
export async function checkMedia(store: MediaStore, identity: string | undefined): Promise<Finding[]> {
  if (identity === undefined) {
    return [problem('attachments: whose the store is cannot be told', 'mend the database first')];
  }
  try {
    await store.check(identity);
    return [ok('attachments: the store can be written')];
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    return [problem(`attachments: ${error.message}`, error.hint ?? 'check MEDIA_STORE')];
  }
}
