import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { type Claim, noteStored, noteWriting, type StoredFile } from '../store/media-claims.ts';
import type { Database } from '../store/schema.ts';
import type { Admission } from '../sync/admission.ts';
import type { UpstreamClient } from '../upstream/client.ts';
import { isStrayPage, mimeTypeOf } from './mime-types.ts';
import { removeFiles } from './removal.ts';
import { type Spooled, spool } from './spool.ts';
import type { MediaStore } from './store.ts';

export interface DownloadContext {
  readonly db: Kysely<Database>;
  readonly store: MediaStore;
  readonly admission: Admission;
  /** With sockets of its own, so that files and pages do not wait for each other's. */
  readonly upstream: UpstreamClient;
  /** MEDIA_MAX_BYTES. */
  readonly maxBytes: number;
  /** For a whole file, and how long nothing of it may come, in milliseconds. */
  readonly timeout: number;
  readonly idleTimeout: number;
}

interface Fetched {
  readonly file: Spooled;
  readonly mimeType: string | null;
}

/**
 * Fetches an attachment and keeps it: spooled, put where its content belongs, checked there, and only then told of. Where
 * it will be is noted before it is, so that a death leaves at most a file that the sweep finds.
 * @returns the file; undefined where the claim was lost meanwhile: somebody else sees to it.
 * @throws ReplicaError with what hindered it; the signal's reason.
 */
export async function download(
  context: DownloadContext,
  claim: Claim,
  signal: AbortSignal,
): Promise<StoredFile | undefined> {
  const { db, store } = context;
  const { file, mimeType } = await fetchTrusted(context, claim, signal);
  const { bytes, sha256 } = file;
  const location = store.locationOf(sha256, mimeType);
  let ours = false;
  try {
    ours = await noteWriting(db, claim, location);
  } finally {
    if (!ours) await discard(file);
  }
  if (!ours) return undefined;
  await store.put(file, location, mimeType);
  const stored = { location, bytes, sha256, mimeType };
  if (!(await noteStored(db, claim, stored))) {
    await removeFiles(db, store, [location]);
    return undefined;
  }
  const replaced = claim.location;
  if (replaced !== null) await removeFiles(db, store, [replaced]);
  return stored;
}

/**
 * A file that is not what its message tells of may have been cut on the way; one that comes twice the same is what the
 * upstream serves, whatever the message says.
 */
async function fetchTrusted(context: DownloadContext, claim: Claim, signal: AbortSignal): Promise<Fetched> {
  const first = await fetchOnce(context, claim, signal);
  const told = hexOf(claim.sha256);
  if (told === undefined || told === first.file.sha256) return first;
  await discard(first.file);
  const second = await fetchOnce(context, claim, signal);
  if ([told, first.file.sha256].includes(second.file.sha256)) return second;
  await discard(second.file);
  throw new ReplicaError('protocol', { where: WHERE, code: 'other content' });
}

async function fetchOnce(context: DownloadContext, claim: Claim, signal: AbortSignal): Promise<Fetched> {
  const { admission, upstream, store, maxBytes, idleTimeout } = context;
  const { connectionId, messageId } = claim;
  // AbortSignal.timeout would keep what has to do with it until its time is over, however soon the file is there.
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), context.timeout);
  const ending = AbortSignal.any([signal, late.signal]);
  try {
    const { body, contentType, contentLength } = await admission.beside(connectionId, ending, (key) =>
      upstream.openMedia(key, connectionId, messageId, ending),
    );
    if (isStrayPage(contentType, claim.mimeType, claim.contentType)) {
      body.on('error', () => {}).destroy();
      throw new ReplicaError('protocol', { where: WHERE, code: 'HTML' });
    }
    const file = await spool(body, {
      folder: store.incoming,
      name: randomBytes(16).toString('hex'),
      length: contentLength,
      ...{ maxBytes, idleTimeout, signal: ending },
    });
    return { file, mimeType: mimeTypeOf(contentType, claim.mimeType) };
  } catch (error) {
    if (late.signal.aborted && !signal.aborted && !(error instanceof ReplicaError)) {
      throw new ReplicaError('timeout', { where: WHERE, code: 'MEDIA_TIMEOUT' });
    }
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

const WHERE = 'GET /v1/whatsapp/media';

async function discard({ path }: Spooled): Promise<void> {
  await rm(path, { force: true }).catch(() => {});
}

/** A SHA-256 in hex or base64, in hex; undefined for anything else. */
function hexOf(text: string | null): string | undefined {
  if (text === null) return undefined;
  if (/^[0-9a-f]{64}$/i.test(text)) return text.toLowerCase();
  const bytes = /^[A-Za-z0-9+/_-]{43}=?$/.test(text) ? Buffer.from(text, 'base64') : undefined;
  return bytes?.length === 32 ? bytes.toString('hex') : undefined;
}
