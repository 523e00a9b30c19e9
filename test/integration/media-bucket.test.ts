/** What only a bucket has: the server's refusals, and a folder for files on their way to it. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { openMediaStore } from '../../src/media/open-store.ts';
import { sweep } from '../../src/media/sweep.ts';
import { useTestDatabase } from '../support/database.ts';
import { mediaFolder } from '../support/media.ts';
import { S3_CREDENTIALS, startS3 } from '../support/s3.ts';
import { waitFor } from '../support/wait.ts';
import { anOwner, inBucket, put } from './media-stores.ts';

const ARCHIVING = new URL('../../src/cli/archiving.ts', import.meta.url).href;
const database = useTestDatabase({ migrated: true });
const { signal } = new AbortController();

const failing = async (more: { endpoint?: URL; bucket?: string }) => {
  const s3 = await startS3('archive');
  const url = { kind: 's3', bucket: more.bucket ?? 'archive', prefix: '' } as const;
  const store = await openMediaStore(url, {
    endpoint: more.endpoint ?? s3.endpoint,
    region: undefined,
    account: process.geteuid?.(),
  });
  return await store
    .check(anOwner('me'))
    .then(
      () => undefined,
      (error: unknown) => error,
    )
    .finally(async () => {
      store.close();
      await s3.stop();
    });
};

test('what is wrong is told with its code and a remedy, without addresses', async () => {
  expect(await failing({})).toBeUndefined();
  expect(await failing({ bucket: 'no-such-bucket' })).toMatchObject({
    kind: 'media_store',
    hint: expect.stringContaining('make the bucket'),
  });
  const unreachable = await failing({ endpoint: new URL('http://127.0.0.1:9') });
  expect(unreachable).toMatchObject({ kind: 'media_store', code: 'ECONNREFUSED' });
  expect(JSON.stringify(unreachable)).not.toContain('127.0.0.1');
});

test('a file that the server refuses is kept neither open nor on the disk, and told of once', async (context) => {
  context.skip(process.platform !== 'linux', 'needs /proc');
  Object.assign(process.env, S3_CREDENTIALS);
  const told = vi.spyOn(console, 'warn');
  // It answers before it has read all of the file, as S3 does.
  const server = createServer((request, response) =>
    response.writeHead(request.method === 'HEAD' ? 404 : 403).end(),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const store = await openMediaStore(
    { kind: 's3', bucket: 'archive', prefix: '' },
    { endpoint: new URL(`http://127.0.0.1:${port}`), region: undefined, account: process.geteuid?.() },
  );
  const isOpen = () =>
    readdirSync('/proc/self/fd').some((fd) => openFile(fd)?.startsWith(store.incoming) === true);
  try {
    await expect(put(store, Buffer.alloc(5_000_000))).rejects.toMatchObject({ kind: 'media_store' });
    await waitFor(() => !isOpen(), { what: 'the file to be closed' });
    expect(readdirSync(store.incoming)).toEqual([]);
    expect(told).not.toHaveBeenCalled();
  } finally {
    told.mockRestore();
    store.close();
    server.close();
  }
});

function openFile(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

test('a folder on the way to a bucket that somebody else made is neither used nor swept', async () => {
  const before = process.env.TMPDIR;
  const folder = mediaFolder();
  const theirs = path.join(folder.path, 'theirs');
  mkdirSync(theirs, { recursive: true });
  const old = path.join(theirs, 'old');
  writeFileSync(old, 'x');
  utimesSync(old, 0, 0);
  process.env.TMPDIR = folder.path;
  const scene = await inBucket();
  try {
    symlinkSync(theirs, scene.store.incoming);
    const refused = { kind: 'media_store', code: 'EPERM', hint: expect.stringContaining('TMPDIR') };
    await expect(scene.store.check(anOwner('x'))).rejects.toMatchObject(refused);
    await expect(sweep(database.db, scene.store, signal)).rejects.toMatchObject(refused);
    expect(existsSync(old)).toBe(true);
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    await scene.close();
    folder.remove();
  }
});

test('a bucket under an account without a name, as containers have them', (context) => {
  const nobody = { uid: 54_321, gid: 54_321, encoding: 'utf8' as const, cwd: '/' };
  const node = (script: string) => spawnSync(process.execPath, ['--input-type=module', '-e', script], nobody);
  context.skip(node(`import ${JSON.stringify(ARCHIVING)}`).status !== 0, 'only root can be somebody else');
  const { stdout, stderr } = node(`
    import { openStore } from ${JSON.stringify(ARCHIVING)};
    const url = { kind: 's3', bucket: 'archive', prefix: '' };
    const store = await openStore({ settings: { MEDIA_STORE: url } });
    console.log(store.incoming);`);
  expect([stdout, stderr]).toEqual([expect.stringMatching(/wa-replica-media-54321\n$/), '']);
});

test('a bucket that takes requests and does not answer is not waited for', async () => {
  Object.assign(process.env, S3_CREDENTIALS);
  const server = createServer(() => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const store = await openMediaStore(
    { kind: 's3', bucket: 'archive', prefix: '' },
    { endpoint, region: undefined, account: process.geteuid?.(), idleTimeout: 500 },
  );
  try {
    const location = store.locationOf('0'.repeat(64), null);
    await expect(store.has(location)).rejects.toMatchObject({ kind: 'media_store', code: 'TimeoutError' });
  } finally {
    store.close();
    server.closeAllConnections();
    server.close();
  }
});
