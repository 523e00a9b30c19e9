import { ReplicaError } from '../errors.ts';

/** The file in a store that says whose it is. */
export const OWNER_FILE = '.wa-replica-store';

/** What stands in it, for whoever finds it. */
export function ownerText(identity: string): string {
  return `${identity}\nThe attachments of this replica. Only what it refers to stays here.\n`;
}

/** Whether a store is this replica's. */
export function isOwner(text: string, identity: string): boolean {
  return text.split('\n', 1)[0] === identity;
}

/** Of a store that another replica writes to. */
export function othersStore(): ReplicaError {
  const hint = `give this replica a MEDIA_STORE of its own, or remove the file ${OWNER_FILE} in it if it is this one's`;
  return new ReplicaError('media_store', { where: 'MEDIA_STORE is of another replica', hint });
}

/** A content's place in any store: two levels of folders, so that none has too many files. */
export function pathOf(sha256: string, extension: string): string {
  return `${sha256.slice(0, 2)}/${sha256.slice(2, 4)}/${sha256}${extension}`;
}

/** Whether a path is one that {@link pathOf} makes: whatever else lies in a store is not ours to touch. */
export function isOurs(path: string): boolean {
  return /^([0-9a-f]{2})\/([0-9a-f]{2})\/\1\2[0-9a-f]{60}(\.[0-9a-z]{2,4})?$/.test(path);
}
