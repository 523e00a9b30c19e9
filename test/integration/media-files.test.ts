import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refetchMissing } from '../../src/media/missing.ts';
import { openMediaStore } from '../../src/media/open-store.ts';
import { OWNER_FILE, ownerOf } from '../../src/media/owner.ts';
import { removeFiles } from '../../src/media/removal.ts';
import type { MediaStore } from '../../src/media/store.ts';
import { sweep } from '../../src/media/sweep.ts';
import { type Claim, claimMedia, noteStored, noteWriting } from '../../src/store/media-claims.ts';
import { removeMedia } from '../../src/store/media-files.ts';
import { openTestDatabase, SCHEMA, useTestDatabase } from '../support/database.ts';
import { type MediaFolder, mediaFolder } from '../support/media.ts';
import { anOwner, digest, inBucket, inFolder, put, type StoreScene } from './media-stores.ts';

const database = useTestDatabase({ migrated: true });
const { signal } = new AbortController();
beforeEach(() => database.query('truncate whatsapp.media'));

const ID = 'conn_a';
const row = (messageId: string, location: string | null, connectionId = ID) =>
  database.query(
    `insert into whatsapp.media (connection_id, message_id, location, state) values ($1, $2, $3, $4)`,
    [connectionId, messageId, location, location === null ? 'pending' : 'stored'],
  );
const claim = async (): Promise<Claim> => {
  const token = randomBytes(4).toString('hex');
  const [one] = await claimMedia(database.db, [{ connectionId: ID, room: 1 }], 1, 'newest', token, 60_000);
  return one!;
};

describe.each([
  ['a folder', inFolder],
  ['a bucket', inBucket],
])('in %s', (_, open) => {
  let scene: StoreScene;
  let store: MediaStore;
  beforeEach(async () => {
    scene = await open();
    store = scene.store;
    await store.check(await ownerOf(database.db, SCHEMA));
  });
  afterEach(() => scene.close());

  test('a content is put once, and again where it is not whole; removing is idempotent', async () => {
    const content = randomBytes(3_000);
    const location = await scene.put(content);
    expect(await scene.put(content)).toBe(location);
    expect(await scene.has(location)).toBe(true);
    await store.remove(location);
    await store.remove(location);
    expect(await scene.has(location)).toBe(false);
    await Promise.all([scene.put(content), scene.put(content), scene.put(content)]);
    expect(await scene.has(location)).toBe(true);
  });

  test('a store belongs to one replica', async () => {
    const other = { kind: 'media_store', hint: expect.stringContaining('.wa-replica-store') };
    await expect(store.check(anOwner('another one'))).rejects.toMatchObject(other);
    await store.check(await ownerOf(database.db, SCHEMA));
  });

  test('the last row that lets go of a file takes it along, in the commit or not at all', async () => {
    const location = await scene.put(randomBytes(100));
    const alone = await scene.put(randomBytes(100));
    await row('m1', location);
    await row('m2', location, 'conn_b');
    await row('m3', alone);
    expect(await removeMedia(database.db, ID, ['m1', 'm3', 'of nobody'])).toEqual([alone]);
    expect(await removeFiles(database.db, store, [alone, location])).toEqual({ removed: 1, elsewhere: [] });
    expect([await scene.has(alone), await scene.has(location)]).toEqual([false, true]);
    expect(await removeMedia(database.db, 'conn_b', ['m2'])).toEqual([location]);
    expect(await removeMedia(database.db, 'conn_b', ['m2'])).toEqual([]);
    // Rolled back: the row is there, and the file stays whatever was returned.
    await row('m4', location);
    const rolledBack = await database.db
      .transaction()
      .execute(async (trx) => {
        expect(await removeMedia(trx, ID, ['m4'])).toEqual([location]);
        throw new Error('no');
      })
      .catch(() => [location]);
    expect(await removeFiles(database.db, store, rolledBack)).toEqual({ removed: 0, elsewhere: [] });
    expect(await scene.has(location)).toBe(true);
  });

  test('both messages of one erasure share a file', async () => {
    const location = await scene.put(randomBytes(100));
    await row('m1', location);
    await row('m2', location);
    expect(await removeMedia(database.db, ID, ['m1', 'm2'])).toEqual([location]);
    // One that a download is about to write goes with its message, too.
    await row('m3', null);
    await noteWriting(database.db, await claim(), location);
    expect(await removeMedia(database.db, ID, ['m3'])).toEqual([location]);
  });

  test('the sweep removes what nothing refers to and is old enough, and nothing else', async () => {
    const [kept, orphan, written] = await Promise.all(
      [1, 2, 3].map((n) => scene.put(Buffer.from(`content ${n}`))),
    );
    await row('m1', kept!);
    await row('m2', null);
    await noteWriting(database.db, await claim(), written!);
    expect(await sweep(database.db, store, signal, 60_000)).toEqual({ orphans: 0, incoming: 0 });
    // The clocks of a bucket have seconds.
    expect((await sweep(database.db, store, signal, -2_000)).orphans).toBe(1);
    expect([await scene.has(orphan!), await scene.has(kept!), await scene.has(written!)]).toEqual([
      false,
      true,
      true,
    ]);
    await store.check(await ownerOf(database.db, SCHEMA));
  });

  test('a stored attachment whose file is gone is fetched again, while the upstream has it', async () => {
    const month = 30 * 86_400_000;
    const [there, gone, old] = await Promise.all(
      [1, 2, 3].map((n) => scene.put(Buffer.from(`content ${n}`))),
    );
    await row('m1', there!);
    await row('m2', gone!);
    await row('m3', gone!, 'conn_b');
    await row('m4', old!);
    await row('m5', 'file:///of/another/store');
    await database.query(
      `update whatsapp.media set sent_at = now() - interval '31 days' where message_id = 'm4'`,
    );
    expect(await refetchMissing(database.db, store, month, signal)).toBe(0);
    await store.remove(gone!);
    await store.remove(old!);
    expect(await refetchMissing(database.db, store, month, signal)).toBe(2);
    const states = 'select message_id, state, location from whatsapp.media order by message_id';
    expect(await database.query(states)).toEqual([
      { message_id: 'm1', state: 'stored', location: there },
      { message_id: 'm2', state: 'pending', location: null },
      { message_id: 'm3', state: 'pending', location: null },
      { message_id: 'm4', state: 'stored', location: old },
      { message_id: 'm5', state: 'stored', location: 'file:///of/another/store' },
    ]);
    expect(await refetchMissing(database.db, store, month, signal)).toBe(0);
  });

  test('a store that has lost whose it is, where something was put there, is not believed', async () => {
    const owner = await ownerOf(database.db, SCHEMA);
    const location = await scene.put(randomBytes(100));
    await row('m1', location);
    await row('m2', 'file:///of/another/store');
    await scene.disown();
    const refused = { kind: 'media_store', code: 'EMPTY', hint: expect.stringContaining('mounted') };
    await expect(store.check(owner)).rejects.toMatchObject(refused);
    // Somebody says that the files are gone for good.
    await scene.disown('');
    await store.check(owner);
    await store.check(owner);
    // Where nothing was put, a store is taken as it is.
    await scene.disown();
    await database.query(`delete from whatsapp.media where message_id = 'm1'`);
    await store.check(owner);
  });

  test('what another folder or bucket has is not taken for its own, and a database that is away is', async () => {
    const location = await scene.put(randomBytes(100));
    // Of a store whose name begins alike.
    await row('m1', location.replace(/(?=\/[0-9a-f]{2}\/[0-9a-f]{2}\/[^/]+$)/, '-too'));
    await scene.disown();
    await store.check(await ownerOf(database.db, SCHEMA));
    await scene.disown();
    const away = openTestDatabase(database.url);
    const owner = await ownerOf(away, SCHEMA);
    await away.destroy();
    await expect(store.check(owner)).rejects.toMatchObject({ kind: 'database' });
  });

  test('a download that comes to share a file while it is removed fetches it again', async () => {
    const location = await scene.put(randomBytes(100));
    await row('m1', null);
    const download = await claim();
    // The sweep has found that nothing refers to it; then the download says that it will, and finds the file there.
    const sharing: Pick<MediaStore, 'remove'> = {
      async remove(one) {
        expect(await noteWriting(database.db, download, one)).toBe(true);
        return await store.remove(one);
      },
    };
    const { removed } = await removeFiles(database.db, sharing as MediaStore, [location]);
    expect(removed).toBe(1);
    const stored = { location, bytes: 100, sha256: 'x', mimeType: null };
    expect(await noteStored(database.db, download, stored)).toBe(false);
    expect(await database.query('select state, location, writing, claimed_by from whatsapp.media')).toEqual([
      { state: 'pending', location: null, writing: null, claimed_by: null },
    ]);
  });
});

describe('in a folder', () => {
  let folder: MediaFolder;
  let store: MediaStore;
  beforeEach(async () => {
    folder = mediaFolder();
    store = await openMediaStore(
      { kind: 'file', folder: folder.path },
      { endpoint: undefined, region: undefined, account: process.geteuid?.() },
    );
    await store.check(anOwner('me'));
  });
  afterEach(() => folder.remove());
  const old = new Date(Date.now() - 90 * 86_400_000);

  test('a place where no folder can be made is refused, and not tried for ever', async () => {
    const url = { kind: 'file', folder: '/proc/wa-replica/media' } as const;
    const nowhere = await openMediaStore(url, {
      endpoint: undefined,
      region: undefined,
      account: process.geteuid?.(),
    });
    await expect(nowhere.check(anOwner('me'))).rejects.toMatchObject({ kind: 'media_store' });
  });

  test('that cannot be written any more is refused', async () => {
    rmSync(store.incoming, { recursive: true });
    writeFileSync(store.incoming, '');
    await expect(store.check(anOwner('me'))).rejects.toMatchObject({ kind: 'media_store', code: 'ENOTDIR' });
  });

  test('what is not ours is never touched', async () => {
    const ours = digest(Buffer.from('x'));
    const theirs = [
      'notes.txt',
      'ab/cd/notes.txt',
      `ab/cd/${ours}.jpg`,
      `ff/ff/${'f'.repeat(63)}`,
      'ab/file',
    ];
    for (const name of theirs) {
      const file = path.join(folder.path, name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, 'theirs');
      utimesSync(file, old, old);
      await store.remove(`file://${file}`);
    }
    await store.remove('file:///etc/passwd');
    await store.remove(`s3://archive/${ours.slice(0, 2)}/${ours.slice(2, 4)}/${ours}`);
    await store.remove(`file://${folder.path}/../${path.basename(folder.path)}x/${ours}`);
    expect(await sweep(database.db, store, signal)).toEqual({ orphans: 0, incoming: 0 });
    for (const name of theirs) expect(readFileSync(path.join(folder.path, name), 'utf8')).toBe('theirs');
  });

  test('nothing is put into the folder below a disk that is not mounted any more', async () => {
    await put(store, randomBytes(10));
    rmSync(path.join(folder.path, OWNER_FILE));
    const refused = { kind: 'media_store', code: 'EMPTY' };
    await expect(put(store, randomBytes(11))).rejects.toMatchObject(refused);
    await store.check(anOwner('me'));
    await put(store, randomBytes(11));
  });

  test('nothing passes for removed on a disk that is not mounted', async () => {
    const location = await put(store, randomBytes(10));
    rmSync(path.join(folder.path, OWNER_FILE));
    await expect(store.remove(location)).rejects.toMatchObject({ kind: 'media_store', code: 'EMPTY' });
  });

  test('a file that the disk has damaged is written anew', async () => {
    const content = randomBytes(500);
    const location = await put(store, content);
    writeFileSync(fileURLToPath(location), randomBytes(500));
    await put(store, content);
    expect(readFileSync(fileURLToPath(location)).equals(content)).toBe(true);
  });

  test('beginnings of files are swept once nobody can be at them any more', async () => {
    for (const name of ['young', 'left-behind']) writeFileSync(path.join(store.incoming, name), 'x');
    // No download makes one.
    mkdirSync(path.join(store.incoming, 'a folder'));
    for (const name of ['a folder', 'left-behind']) utimesSync(path.join(store.incoming, name), old, old);
    expect(await sweep(database.db, store, signal)).toEqual({ orphans: 0, incoming: 1 });
    expect((await folder.incoming()).sort()).toEqual(['a folder', 'young']);
  });
});

test('a replica is told from every other by its schema and its first migration', async () => {
  const { identity } = await ownerOf(database.db, SCHEMA);
  expect((await ownerOf(database.db, SCHEMA)).identity).toBe(identity);
  expect((await ownerOf(database.db, 'another')).identity).not.toBe(identity);
  await database.query(`update whatsapp.kysely_migration set timestamp = '2026-01-01T00:00:00.000Z'
    where name = (select min(name) from whatsapp.kysely_migration)`);
  expect((await ownerOf(database.db, SCHEMA)).identity).not.toBe(identity);
});
