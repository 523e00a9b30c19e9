import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { codeOf, ReplicaError } from '../errors/errors.ts';

/** A file that came whole, and is on the disk. */
export interface Spooled {
  readonly path: string;
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

export interface SpoolOptions {
  readonly folder: string;
  /** A name that nobody else uses. */
  readonly name: string;
  /** What the answer promised, in bytes. */
  readonly length: number | undefined;
  readonly maxBytes: number;
  /** How long nothing may come, in milliseconds. */
  readonly idleTimeout: number;
  /** Ends it; its reason is thrown. */
  readonly signal: AbortSignal;
}

const WHERE = 'GET /v1/whatsapp/media';

/**
 * Writes a body to a file as it comes, and counts and hashes it on the way: never more of it in memory than a piece.
 * @throws ReplicaError: `oversize`; `network`, `timeout` and `protocol` where it did not come whole; `media_store` where
 * it cannot be written. Nothing is left then.
 */
export async function spool(body: Readable, options: SpoolOptions): Promise<Spooled> {
  const { folder, name, length, maxBytes, signal } = options;
  const file = path.join(folder, name);
  try {
    if (length !== undefined && length > maxBytes) throw tooLarge(length);
    const handle = await open(file, 'wx', 0o640).catch(notWritable);
    try {
      const read = await copy(body, handle, options);
      if (read.bytes === 0) throw new ReplicaError('protocol', { where: WHERE, code: 'empty' });
      if (length !== undefined && read.bytes !== length) {
        throw new ReplicaError('protocol', { where: WHERE, code: 'cut' });
      }
      await handle.sync().catch(notWritable);
      return { path: file, ...read };
    } finally {
      await handle.close().catch(() => {});
    }
  } catch (error) {
    body.on('error', () => {}).destroy();
    await rm(file, { force: true }).catch(() => {});
    if (error instanceof ReplicaError) throw error;
    signal.throwIfAborted();
    throw ReplicaError.from('network', error, WHERE);
  }
}

async function copy(
  body: Readable,
  handle: FileHandle,
  { maxBytes, idleTimeout }: SpoolOptions,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  const idle = setTimeout(() => {
    body.destroy(new ReplicaError('timeout', { where: WHERE, code: 'REQUEST_TIMEOUT' }));
  }, idleTimeout);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      idle.refresh();
      bytes += chunk.length;
      if (bytes > maxBytes) throw tooLarge(bytes);
      hash.update(chunk);
      await writeWhole(handle, chunk);
    }
  } finally {
    clearTimeout(idle);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** A disk that fills takes a part first, and refuses only the next. */
async function writeWhole(handle: FileHandle, chunk: Buffer): Promise<void> {
  for (let at = 0; at < chunk.length; ) {
    at += (await handle.write(chunk, at, chunk.length - at).catch(notWritable)).bytesWritten;
  }
}

function tooLarge(bytes: number): ReplicaError {
  const hint = 'raise MEDIA_MAX_BYTES, then run `wa-replica media retry`';
  return new ReplicaError('oversize', { where: WHERE, code: `${bytes} bytes or more`, hint });
}

function notWritable(error: unknown): never {
  throw storeError(error, 'writing an attachment');
}

/** A failure of the store. Its code is kept, its text is not: it has paths and addresses. */
export function storeError(error: unknown, where: string, hint?: string): ReplicaError {
  if (error instanceof ReplicaError) return error;
  const code = codeOf(error);
  return new ReplicaError('media_store', { where, code, ...(hint === undefined ? {} : { hint }) });
}

/** The SHA-256 of a file as it is on the disk now, in hex, and its size. */
export async function fileDigest(file: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await pipeline(createReadStream(file), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      hash.update(chunk);
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}
