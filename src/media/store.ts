import type { Owner } from './owner.ts';
import type { Spooled } from './spool.ts';

/** A file of the archive. */
export interface Kept {
  readonly location: string;
  readonly modifiedAt: Date;
}

/**
 * Where files are kept, by content. All of it is idempotent, so that whatever was cut off is done again.
 * Every method throws ReplicaError `media_store` where the store is out of reach, or refuses.
 */
export interface MediaStore {
  /** The folder for files on their way; on the store's own disk where it has one. */
  readonly incoming: string;
  /** Where a content is kept, or will be. */
  locationOf(sha256: string, mimeType: string | null): string;
  /** Puts a file where it belongs and checks that it is there, whole. Takes the spooled file away. */
  put(file: Spooled, location: string, mimeType: string | null): Promise<void>;
  /** Whether a file is there; undefined for one that is another store's. */
  has(location: string): Promise<boolean | undefined>;
  /** Removes a file; one that is not there already is.
   * @returns false for one that is another store's: it is left alone. */
  remove(location: string): Promise<boolean>;
  /** The files that were last changed before a time, and so are nobody's that is on its way. */
  keptBefore(time: Date): AsyncIterable<Kept>;
  /** Removes what downloads that were killed have left before a time.
   * @returns how many. */
  clearIncoming(time: Date): Promise<number>;
  /** Makes sure that it can be written, and that it is this replica's: two must not share one, since each would remove
   * what only the other refers to. */
  check(owner: Owner): Promise<void>;
  close(): void;
}
