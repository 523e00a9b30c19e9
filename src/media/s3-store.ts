import { createReadStream } from 'node:fs';
import { lstat, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { absent, clearFolder } from './incoming.ts';
import { extensionOf } from './mime-types.ts';
import type { S3Options } from './open-store.ts';
import { judgeOwner, OWNER_FILE, type Owner, ownerText } from './owner.ts';
import { isOurs, pathOf } from './paths.ts';
import { type Spooled, storeError } from './spool.ts';
import type { Kept, MediaStore } from './store.ts';

const silent = () => {};
const QUIET = { trace: silent, debug: silent, info: silent, warn: silent, error: silent };

/** For a connection to be made, and for a pause in a request or its answer, in milliseconds. */
const CONNECT_TIMEOUT = 10_000;
const IDLE_TIMEOUT = 60_000;

/**
 * The archive in a bucket. A file is spooled to the local disk first, since its content is its key. What is put carries
 * its checksum, so that the server takes it whole or not at all.
 */
export class S3Store implements MediaStore {
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #client: S3Client;
  readonly #account: number | undefined;
  readonly incoming: string;

  constructor(
    { bucket, prefix }: { bucket: string; prefix: string },
    { endpoint, region, account, idleTimeout = IDLE_TIMEOUT }: S3Options,
  ) {
    this.#account = account;
    this.#bucket = bucket;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.incoming = path.join(tmpdir(), `wa-replica-media-${account ?? ''}`);
    // A server of one's own often has no region, and is addressed by path; the SDK wants to hear of one.
    const where = region ?? (endpoint === undefined ? undefined : 'us-east-1');
    this.#client = new S3Client({
      ...(endpoint === undefined ? {} : { endpoint: endpoint.href, forcePathStyle: true }),
      ...(where === undefined ? {} : { region: where }),
      maxAttempts: 2,
      // Failures are told by whoever asked; without a logger the SDK writes to the console.
      logger: QUIET,
      requestHandler: { connectionTimeout: CONNECT_TIMEOUT, socketTimeout: idleTimeout },
    });
  }

  locationOf(sha256: string, mimeType: string | null): string {
    return `${this.#root}${pathOf(sha256, extensionOf(mimeType))}`;
  }

  async put(file: Spooled, location: string, mimeType: string | null): Promise<void> {
    const object = { Bucket: this.#bucket, Key: this.#keyOf(location)! };
    try {
      if ((await this.#sizeOf(object)) === file.bytes) return;
      const body = createReadStream(file.path);
      const put = new PutObjectCommand({
        ...object,
        Body: body,
        ContentLength: file.bytes,
        ChecksumSHA256: Buffer.from(file.sha256, 'hex').toString('base64'),
        ...(mimeType === null ? {} : { ContentType: mimeType }),
      });
      // Where the server refuses it, the SDK reads no further and leaves it open; its space on the disk would stay taken.
      await this.#client.send(put).finally(() => body.destroy());
      if ((await this.#sizeOf(object)) !== file.bytes) throw Object.assign(new Error(), { code: 'MISMATCH' });
    } catch (error) {
      throw failure(error, 'storing an attachment');
    } finally {
      await rm(file.path, { force: true }).catch(() => {});
    }
  }

  async has(location: string): Promise<boolean | undefined> {
    const key = this.#keyOf(location);
    if (key === undefined) return undefined;
    try {
      return (await this.#sizeOf({ Bucket: this.#bucket, Key: key })) !== undefined;
    } catch (error) {
      throw failure(error, 'looking for an attachment');
    }
  }

  async remove(location: string): Promise<boolean> {
    const key = this.#keyOf(location);
    if (key === undefined) return false;
    try {
      await this.#client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key }));
      return true;
    } catch (error) {
      throw failure(error, 'removing an attachment');
    }
  }

  async *keptBefore(time: Date): AsyncIterable<Kept> {
    try {
      for (let token: string | undefined, more = true; more; more = token !== undefined) {
        const page = await this.#client.send(
          new ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: this.#prefix,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
        );
        token = page.NextContinuationToken;
        for (const { Key: key = '', LastModified: modifiedAt } of page.Contents ?? []) {
          if (modifiedAt === undefined || modifiedAt >= time || !isOurs(key.slice(this.#prefix.length)))
            continue;
          yield { location: `s3://${this.#bucket}/${key}`, modifiedAt };
        }
      }
    } catch (error) {
      throw failure(error, 'reading the archive');
    }
  }

  async clearIncoming(time: Date): Promise<number> {
    await this.#makeIncoming();
    return await clearFolder(this.incoming, time);
  }

  async check(owner: Owner): Promise<void> {
    const object = { Bucket: this.#bucket, Key: `${this.#prefix}${OWNER_FILE}` };
    await this.#client.config.region().catch(() => {
      throw storeError({ code: 'no region' }, 'opening the archive', 'set MEDIA_S3_REGION');
    });
    try {
      await this.#makeIncoming();
      await judgeOwner(owner, await this.#read(object), this.#root);
      // Each time: it proves that one may write.
      await this.#client.send(new PutObjectCommand({ ...object, Body: ownerText(owner) }));
    } catch (error) {
      throw failure(error, 'opening the archive');
    }
  }

  close(): void {
    this.#client.destroy();
  }

  get #root(): string {
    return `s3://${this.#bucket}/${this.#prefix}`;
  }

  /** Undefined for a location that is not one of this store's files. */
  #keyOf(location: string): string | undefined {
    if (!location.startsWith(this.#root)) return undefined;
    const inside = location.slice(this.#root.length);
    return isOurs(inside) ? this.#prefix + inside : undefined;
  }

  /** In a folder that all accounts share anyone can be first: what is put there, and taken away, would be theirs. */
  async #makeIncoming(): Promise<void> {
    const found = await this.#incomingFolder();
    const mine = this.#account === undefined || (found.uid === this.#account && (found.mode & 0o022) === 0);
    if (found.isDirectory() && mine) return;
    const hint = `another account has made ${path.basename(this.incoming)} in the temporary folder: remove it, or set TMPDIR`;
    throw storeError({ code: 'EPERM' }, 'opening the archive', hint);
  }

  async #incomingFolder() {
    try {
      // Whether its parent is missing is asked first: of a file system that only reads, `recursive` says ENOENT.
      await mkdir(this.incoming, { mode: 0o700 }).catch(
        absent(() => mkdir(this.incoming, { recursive: true, mode: 0o700 })),
      );
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        const folder = path.dirname(this.incoming);
        const hint = `files on their way need room in ${folder}: make it writable (in a container, a tmpfs or volume there), or set TMPDIR`;
        throw storeError(error, 'opening the archive', hint);
      }
    }
    return await lstat(this.incoming);
  }

  /** Undefined where there is no such object. */
  async #sizeOf(object: { Bucket: string; Key: string }): Promise<number | undefined> {
    try {
      return (await this.#client.send(new HeadObjectCommand(object))).ContentLength;
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw error;
    }
  }

  async #read(object: { Bucket: string; Key: string }): Promise<string | undefined> {
    try {
      return await (await this.#client.send(new GetObjectCommand(object))).Body?.transformToString();
    } catch (error) {
      if (error instanceof S3ServiceException && error.name === 'NoSuchKey') return undefined;
      throw error;
    }
  }
}

function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** What to do about what S3 answers, by the name of its error. */
const REMEDIES: Readonly<Record<string, string>> = {
  NoSuchBucket: 'make the bucket of MEDIA_STORE, or check its name',
  AccessDenied: 'the credentials (AWS_*) need s3:GetObject, PutObject, DeleteObject and ListBucket',
  InvalidAccessKeyId: 'check AWS_ACCESS_KEY_ID',
  SignatureDoesNotMatch: 'check AWS_SECRET_ACCESS_KEY, and MEDIA_S3_REGION',
  CredentialsProviderError: 'give credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role',
  PermanentRedirect: 'the bucket is in another region: set MEDIA_S3_REGION',
  AuthorizationHeaderMalformed: 'the bucket is in another region: set MEDIA_S3_REGION',
};

/** What an answer to HEAD means, which has no text that names it. */
const UNNAMED: Readonly<Record<number, string>> = { 301: 'PermanentRedirect', 403: 'AccessDenied' };

/** The SDK names its errors; a network's code lies in them. */
function failure(error: unknown, where: string) {
  const named = error instanceof Error ? error.name : '';
  if (named !== '' && named !== 'Error' && !('code' in (error as object))) {
    const status = statusOf(error);
    const name = (named === 'Unknown' && UNNAMED[status ?? 0]) || named;
    const code = status === undefined ? name : `${name} ${status}`;
    return storeError(Object.assign(new Error(), { code }), where, REMEDIES[name]);
  }
  return storeError(error, where);
}
