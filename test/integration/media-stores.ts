/** A store in a folder and one in a bucket, and what a test does to either from outside. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect } from 'vitest';
import { openMediaStore } from '../../src/media/open-store.ts';
import { OWNER_FILE, type Owner } from '../../src/media/owner.ts';
import type { MediaStore } from '../../src/media/store.ts';
import { mediaFolder } from '../support/media.ts';
import { startS3 } from '../support/s3.ts';

export const digest = (content: Buffer) => createHash('sha256').update(content).digest('hex');

/** A replica that has put nothing anywhere. */
export const anOwner = (identity: string): Owner => ({ identity, hasFiles: async () => false });

export interface StoreScene {
  readonly store: MediaStore;
  /** Puts a content there. */
  put(content: Buffer, mimeType?: string | null): Promise<string>;
  has(location: string): Promise<boolean>;
  /** Takes its owner's file away, or leaves this text in it. */
  disown(text?: string): Promise<void>;
  close(): Promise<void>;
}

async function spooled(store: MediaStore, content: Buffer) {
  mkdirSync(store.incoming, { recursive: true });
  const file = path.join(store.incoming, randomBytes(8).toString('hex'));
  writeFileSync(file, content);
  return { path: file, bytes: content.length, sha256: digest(content) };
}

/** Puts a content there as a download does. */
export async function put(store: MediaStore, content: Buffer, mimeType: string | null = 'image/jpeg') {
  const location = store.locationOf(digest(content), mimeType);
  const file = await spooled(store, content);
  await store.put(file, location, mimeType);
  expect(existsSync(file.path)).toBe(false);
  return location;
}

export async function inFolder(): Promise<StoreScene> {
  const folder = mediaFolder();
  const store = await openMediaStore(
    { kind: 'file', folder: folder.path },
    { endpoint: undefined, region: undefined, account: process.geteuid?.() },
  );
  return {
    store,
    put: (content, type) => put(store, content, type),
    has: async (location) => existsSync(new URL(location)),
    async disown(text) {
      const file = path.join(folder.path, OWNER_FILE);
      if (text === undefined) rmSync(file);
      else writeFileSync(file, text);
    },
    close: async () => folder.remove(),
  };
}

export async function inBucket(): Promise<StoreScene> {
  const s3 = await startS3('archive');
  const url = { kind: 's3', bucket: 'archive', prefix: 'of/this replica'.replace(' ', '-') } as const;
  const store = await openMediaStore(url, {
    endpoint: s3.endpoint,
    region: undefined,
    account: process.geteuid?.(),
  });
  return {
    store,
    put: (content, type) => put(store, content, type),
    has: (location) => s3.has('archive', location.slice('s3://archive/'.length)),
    disown: (text) => s3.replace('archive', `${url.prefix}/${OWNER_FILE}`, text),
    async close() {
      store.close();
      await s3.stop();
    },
  };
}
