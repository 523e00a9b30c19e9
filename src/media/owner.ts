import { ReplicaError } from '../errors/errors.ts';
import type { Db } from '../store/database.ts';
import { hasFilesUnder, replicaIdentity } from '../store/media-files.ts';

/** The file in a store that says whose it is. */
export const OWNER_FILE = '.wa-replica-store';

/** Whose a store is to be: a replica, as far as a store asks about it. */
export interface Owner {
  readonly identity: string;
  /** Whether it has put files there. @param root what their locations begin with. */
  readonly hasFiles: (root: string) => Promise<boolean>;
}

/** This replica. @throws what Postgres throws. */
export async function ownerOf(db: Db, schema: string): Promise<Owner> {
  const identity = await replicaIdentity(db, schema);
  return {
    identity,
    async hasFiles(root) {
      try {
        return await hasFilesUnder(db, root);
      } catch (error) {
        throw ReplicaError.from('database', error, 'looking for stored attachments');
      }
    },
  };
}

/** What stands in the file, for whoever finds it. */
export function ownerText({ identity }: Owner): string {
  return `${identity}\nThe attachments of this replica. Only what it refers to stays here.\n`;
}

/**
 * Judges a store by what stands in its file. One without is nobody's yet, unless this replica has put files there: then
 * it is not the store that it was, and what is put there now would be out of sight once that is back.
 * @param text undefined where there is no such file; an empty one, made by hand, says that the files are gone for good.
 * @param root what the locations of its files begin with.
 * @returns whether the file is to be written.
 * @throws ReplicaError `media_store` where it is another replica's, or not there.
 */
export async function judgeOwner(owner: Owner, text: string | undefined, root: string): Promise<boolean> {
  if (text === undefined && (await owner.hasFiles(root))) throw notThere('opening the archive');
  if (text === undefined || text === '') return true;
  if (text.split('\n', 1)[0] === owner.identity) return false;
  const hint = `give this replica a MEDIA_STORE of its own, or remove the file ${OWNER_FILE} in it if it is this one's`;
  throw new ReplicaError('media_store', { where: 'MEDIA_STORE is of another replica', hint });
}

/** Of a store in which nothing is of what was put there. */
export function notThere(where: string): ReplicaError {
  const hint =
    'none of the stored files is there: check MEDIA_STORE, and that its disk is mounted; ' +
    `if they are gone for good, make an empty file ${OWNER_FILE} there`;
  return new ReplicaError('media_store', { where, code: 'EMPTY', hint });
}
