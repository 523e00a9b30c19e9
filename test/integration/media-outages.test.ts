/** What may go wrong with the store of attachments; it holds up all of them, and nothing else. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { contentOf } from '../support/media.ts';
import { waitFor } from '../support/wait.ts';
import { MediaScene } from './media-scene.ts';

const scene = MediaScene.use();
const { start, stop, rows, queue, becomes, told, fails, kinds } = scene;

test('a store that is out of reach holds attachments up, and comes back by itself', async () => {
  const inTheWay = path.join(scene.folder.path, 'archive');
  writeFileSync(inTheWay, '');
  await queue(...scene.served.slice(0, 3));
  const asked = scene.simulator.stats.served['media 200'] ?? 0;
  await start({ MEDIA_STORE: `${scene.folder.url}/archive` });
  await told('stopped');
  expect(kinds('stopped')[0]).toBe('media_store');
  // Nothing is asked for that could not be kept.
  expect(scene.simulator.stats.served['media 200'] ?? 0).toBe(asked);
  rmSync(inTheWay);
  // It may be quicker.
  mkdirSync(inTheWay, { recursive: true });
  await becomes('stored', 3);
  await told('resumed');
});

test('a store that comes back is told of though nothing waits for it any more', async () => {
  const inTheWay = path.join(scene.folder.path, 'archive');
  writeFileSync(inTheWay, '');
  await queue();
  await start({ MEDIA_STORE: `${scene.folder.url}/archive` });
  await told('stopped');
  await scene.database.query('truncate whatsapp.media');
  rmSync(inTheWay);
  await told('resumed');
});

test('a store that comes back is told of though the upstream holds everything up then', async () => {
  const inTheWay = path.join(scene.folder.path, 'archive');
  writeFileSync(inTheWay, '');
  await queue();
  const only = { WHATSAPP_USE_CONNECTION_IDS: scene.served[0]!.connection.id };
  await start({ MEDIA_STORE: `${scene.folder.url}/archive`, ...only });
  await told('stopped');
  fails({ kind: 'answer', status: 401 }, 1_000);
  rmSync(inTheWay);
  await told('resumed');
  expect(kinds('held')).toContain('unauthorized');
});

test('a store that comes back is looked at anew: it may be another one', async () => {
  await queue();
  await start();
  await becomes('stored');
  const incoming = path.join(scene.folder.path, '.incoming');
  rmSync(incoming, { recursive: true });
  writeFileSync(incoming, '');
  writeFileSync(path.join(scene.folder.path, '.wa-replica-store'), 'of somebody else\n');
  await queue(scene.served[1]!);
  scene.archive.archive.wake();
  await told('stopped');
  rmSync(incoming);
  const refused = () =>
    scene.archive.events.some(
      (event) => event.type === 'stopped' && event.error.message.endsWith('of another replica'),
    );
  await waitFor(refused, { what: 'the store to be refused' });
  expect((await rows()).filter(({ state }) => state === 'stored')).toHaveLength(1);
});

test('a disk that fills leaves no wrong row and no piece of a file', async (context) => {
  const disk = path.join(scene.folder.path, 'disk');
  mkdirSync(disk);
  const mount = (...args: string[]) => execFileSync('mount', [...args, disk], { stdio: 'ignore' });
  try {
    mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs');
  } catch {
    context.skip('only root may mount a disk that is small');
  }
  try {
    const body = randomBytes(100_000);
    fails({ kind: 'answer', status: 200, body }, 1_000);
    await queue();
    await start({ MEDIA_STORE: `${scene.folder.url}/disk` });
    await waitFor(() => kinds('stopped').length >= 2, { what: 'the disk to be full twice' });
    // It tries again and again: what is left is seen between two tries.
    const between = async () => {
      expect(await rows()).toMatchObject([
        { state: 'pending', attempts: 0, location: null, claimed_by: null },
      ]);
      const pieces = execFileSync('find', [disk, '-type', 'f', '-size', '+0'], { encoding: 'utf8' });
      expect(pieces.trim().split('\n')).toEqual([path.join(disk, '.wa-replica-store')]);
      return true;
    };
    await waitFor(between, { what: 'nothing to be left of a try' });
    mount('-o', 'remount,size=1m', 'tmpfs');
    await becomes('stored');
    expect((await contentOf((await rows())[0]!.location!)).equals(body)).toBe(true);
  } finally {
    await stop();
    execFileSync('umount', [disk]);
  }
});
