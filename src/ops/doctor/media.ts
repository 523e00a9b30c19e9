import { ReplicaError } from '../../errors/errors.ts';
import type { Owner } from '../../media/owner.ts';
import type { MediaStore } from '../../media/store.ts';
import { type Finding, ok, problem } from './finding.ts';

/** Checks that the store can be written, and that it is this replica's.
 * @param owner this replica; undefined where its database is not known: the store is left alone then. */
export async function checkMedia(store: MediaStore, owner: Owner | undefined): Promise<Finding[]> {
  if (owner === undefined) {
    return [problem('attachments: whose the store is cannot be told', 'mend the database first')];
  }
  try {
    await store.check(owner);
    return [ok('attachments: the store can be written')];
  } catch (error) {
    if (!(error instanceof ReplicaError)) throw error;
    return [problem(`attachments: ${error.message}`, error.hint ?? 'check MEDIA_STORE')];
  }
}
