import type { MediaStoreUrl } from '../model.ts';
import { FileStore } from './file-store.ts';
import type { MediaStore } from './store.ts';

export interface S3Options {
  /** Undefined for Amazon's. */
  readonly endpoint: URL | undefined;
  readonly region: string | undefined;
  /** The number of the account that this process has: a container's may have no name. */
  readonly account: number | undefined;
  /** How long a request may pause, in milliseconds. */
  readonly idleTimeout?: number;
}

/** Opens the store that MEDIA_STORE names; touches nothing yet. What speaks S3 is loaded only where it is wanted. */
export async function openMediaStore(url: MediaStoreUrl, s3: S3Options): Promise<MediaStore> {
  if (url.kind === 'file') return new FileStore(url.folder);
  const { S3Store } = await import('./s3-store.ts');
  return new S3Store(url, s3);
}
