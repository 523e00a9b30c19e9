/** What only a bucket has: the server's refusals, and a folder for files on their way to it. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { openMediaStore } from '../../src/media/open-store.ts';
import { pathOf } from '../../src/media/paths.ts';
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

/** A server in a bucket's place, and a store that takes it for one. */
async function standIn(answer: RequestListener, idleTimeout?: number) {
  Object.assign(process.env, S3_CREDENTIALS);
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const options = { endpoint, region: undefined, account: process.geteuid?.() };
  const store = await openMediaStore(
    { kind: 's3', bucket: 'archive', prefix: 'a' },
    { ...options, ...(idleTimeout === undefined ? {} : { idleTimeout }) },
  );
  onTestFinished(() => {
    store.close();
    server.closeAllConnections();
    server.close();
  });
  return store;
}

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

test.each([
  [403, 'AccessDenied', 'ListBucket'],
  [301, 'PermanentRedirect', 'MEDIA_S3_REGION'],
])('so is a %i without a word, as to a look at a file', async (status, name, hint) => {
  const store = await standIn((_, response) => response.writeHead(status).end());
  const refused = { kind: 'media_store', code: `${name} ${status}`, hint: expect.stringContaining(hint) };
  await expect(put(store, Buffer.from('a file'))).rejects.toMatchObject(refused);
});

test('a file that the server refuses is kept neither open nor on the disk, and told of once', async (context) => {
  context.skip(process.platform !== 'linux', 'needs /proc');
  const told = vi.spyOn(console, 'warn');
  onTestFinished(() => told.mockRestore());
  // It answers before it has read all of the file, as S3 does.
  const store = await standIn((request, response) =>
    response.writeHead(request.method === 'HEAD' ? 404 : 403).end(),
  );
  const isOpen = () =>
    readdirSync('/proc/self/fd').some((fd) => openFile(fd)?.startsWith(store.incoming) === true);
  await expect(put(store, Buffer.alloc(5_000_000))).rejects.toMatchObject({ kind: 'media_store' });
  await waitFor(() => !isOpen(), { what: 'the file to be closed' });
  expect(readdirSync(store.incoming)).toEqual([]);
  expect(told).not.toHaveBeenCalled();
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
    // Nor is the bucket blamed where none can be made.
    rmSync(folder.path, { recursive: true });
    writeFileSync(folder.path, '');
    const told = { kind: 'media_store', code: 'ENOTDIR', hint: expect.stringContaining('TMPDIR') };
    await expect(scene.store.check(anOwner('x'))).rejects.toMatchObject(told);
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
  const store = await standIn(() => {}, 500);
  const location = store.locationOf('0'.repeat(64), null);
  await expect(store.has(location)).rejects.toMatchObject({ kind: 'media_store', code: 'TimeoutError' });
});

test('what is put carries its type and its checksum, and is looked at once it is there', async () => {
  const content = Buffer.from('a file');
  const puts: IncomingHttpHeaders[] = [];
  const store = await standIn((request, response) => {
    if (request.method === 'PUT') puts.push(request.headers);
    // It takes all, and keeps half.
    const head = puts.length === 0 ? [404] : [200, { 'content-length': content.length / 2 }];
    request.resume().on('end', () => {
      if (request.method === 'HEAD') response.writeHead(...(head as [number])).end();
      else response.end();
    });
  });
  await expect(put(store, content)).rejects.toMatchObject({ kind: 'media_store', code: 'MISMATCH' });
  expect(puts).toMatchObject([
    {
      'content-type': 'image/jpeg',
      'x-amz-checksum-sha256': createHash('sha256').update(content).digest('base64'),
    },
  ]);
});

test('a bucket that has more than one answer lists is read to its end', async () => {
  const keys = ['0', '1', '2'].map((digit) => `a/${pathOf(digit.repeat(64), '.jpg')}`);
  const store = await standIn((request, response) => {
    const token = new URL(request.url!, 'http://here').searchParams.get('continuation-token');
    const page = token === null ? 0 : Number(token.slice(1));
    const next = page < 2 ? `<NextContinuationToken>/${page + 1}</NextContinuationToken>` : '';
    response.end(`<ListBucketResult><IsTruncated>${page < 2}</IsTruncated>${next}<Contents><Key>${keys[page]}</Key>
      <LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents></ListBucketResult>`);
  });
  const found: string[] = [];
  for await (const { location } of store.keptBefore(new Date('2026-11-02'))) {
    found.push(location);
    if (found.length > keys.length) break;
  }
  expect(found).toEqual(keys.map((key) => `s3://archive/${key}`));
});

test.each([
  [503, 'SlowDown'],
  [403, 'AccessDenied'],
])('a bucket that answers %i is refused by that', async (status, code) => {
  const store = await standIn((request, response) => {
    request.resume();
    response.writeHead(status).end(`<Error><Code>${code}</Code><Message>secret</Message></Error>`);
  });
  const refused = (error: unknown) => {
    expect(error).toMatchObject({ kind: 'media_store', code: `${code} ${status}` });
    expect(JSON.stringify(error)).not.toContain('secret');
    return 'refused';
  };
  expect(await store.check(anOwner('me')).catch(refused)).toBe('refused');
  expect(await store.keptBefore(new Date())[Symbol.asyncIterator]().next().catch(refused)).toBe('refused');
  expect(await store.remove(store.locationOf('0'.repeat(64), null)).catch(refused)).toBe('refused');
});
