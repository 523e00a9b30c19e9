/** What may go wrong with an attachment, its connection and its store; none of it is the messages' matter. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { sweep } from '../../src/media/sweep.ts';
import type { Connection } from '../../src/simulator/connection.ts';
import type { Fault } from '../../src/simulator/faults.ts';
import { mediaFile } from '../../src/simulator/media.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { retryMedia } from '../../src/store/media-report.ts';
import { supervise } from '../../src/sync/supervisor.ts';
import { runCli, startCli } from '../support/cli.ts';
import { useTestDatabase } from '../support/database.ts';
import {
  contentOf,
  type MediaFolder,
  mediaFolder,
  startArchive,
  type TestArchive,
} from '../support/media.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let folder: MediaFolder;
let replica: TestReplica | undefined;
let archive: TestArchive;
/** Messages whose attachments are served, by connection; the simulator has one connection more. */
let served: { readonly connection: Connection; readonly id: string; readonly bytes: Buffer }[] = [];

beforeAll(async () => {
  simulator = await startSimulator({ connections: 2, messages: 300 });
  expect(await runCli(['sync'], { ...env(), MEDIA_STORE: 'off' })).toMatchObject({ status: 0 });
  served = [...simulator.world.connections.values()].flatMap((connection) =>
    connection.messages.flatMap((message) => {
      const file = mediaFile(message.contentType, message.media);
      if (message.media === 0 || message.contentType === 'text' || !file.available) return [];
      return [{ connection, id: connection.messageId(message.index), bytes: file.bytes }];
    }),
  );
});
afterAll(async () => {
  await simulator.close();
});
beforeEach(async () => {
  folder = mediaFolder();
  await database.query('truncate whatsapp.media');
});
afterEach(async () => {
  await stop();
  simulator.faults.clear();
  folder.remove();
});

const env = (more: Record<string, string> = {}) => ({
  ...quickSettings(database.url, simulator.url),
  ...{ MEDIA_STORE: folder?.url ?? 'off', REQUEST_TIMEOUT: '1s', ...more },
});
async function start(more: Record<string, string> = {}): Promise<TestArchive> {
  replica = await createReplica(env(more));
  archive = await startArchive(replica);
  return archive;
}
async function stop() {
  if (replica === undefined) return;
  await archive.stop();
  await replica.close();
  replica = undefined;
}

function stopper() {
  const stopping = new AbortController();
  return { signal: stopping.signal, stop: () => stopping.abort(new DOMException('done', 'AbortError')) };
}

interface Row {
  message_id: string;
  state: string;
  location: string | null;
  sha256: string | null;
  attempts: number;
  error_kind: string | null;
  writing: string | null;
  claimed_by: string | null;
}
const rows = () =>
  database.query<Row & Record<string, unknown>>('select * from whatsapp.media order by message_id');
/** Puts messages into the queue; the first that is served where none is named. */
const queue = (...ones: typeof served) =>
  Promise.all(
    (ones.length === 0 ? served.slice(0, 1) : ones).map(({ connection, id }) =>
      database.query('insert into whatsapp.media (connection_id, message_id) values ($1, $2)', [
        connection.id,
        id,
      ]),
    ),
  );
const becomes = (state: string, count = 1) =>
  waitFor(async () => (await rows()).filter((row) => row.state === state).length === count, {
    what: `${count} to be ${state}`,
    deadlineMs: 20_000,
  });
/** Waits for an event: what it tells of is in the tables before. */
const told = (type: string) =>
  waitFor(() => archive.events.some((event) => event.type === type), { what: `the event ${type}` });
const media = (fault: Fault, times = 1) => simulator.faults.script(fault, times, { route: 'media' });
const kinds = (type: string) =>
  archive.events.flatMap((event) => (event.type === type && 'error' in event ? [event.error.kind] : []));

test.each<[string, Fault, string]>([
  ['a body that is cut', { kind: 'cut' }, 'network'],
  ['a connection that ends', { kind: 'drop' }, 'network'],
  ['no answer', { kind: 'hang' }, 'timeout'],
  ['a body that stands still', { kind: 'trickle', bytes: 10, delayMs: 60_000 }, 'timeout'],
  ['500', { kind: 'internal' }, 'upstream'],
  ["a proxy's page", { kind: 'html' }, 'protocol'],
  ['an empty file', { kind: 'answer', status: 200, body: '' }, 'protocol'],
])('%s is tried again, and leaves nothing behind', async (_, fault, kind) => {
  media(fault);
  await queue();
  await start();
  await becomes('stored');
  expect(kinds('again')).toEqual([kind]);
  const [row] = await rows();
  expect(row).toMatchObject({ attempts: 2, error_kind: null, claimed_by: null, writing: null });
  expect((await contentOf(row!.location!)).equals(served[0]!.bytes)).toBe(true);
  expect(await folder.incoming()).toEqual([]);
});

test.each<[string, Fault, string]>([
  ['503', { kind: 'unavailable' }, 'not_ready'],
  ['a refused key', { kind: 'answer', status: 401 }, 'unauthorized'],
  ['no subscription', { kind: 'answer', status: 402 }, 'payment_required'],
])('%s holds its connection back, and is no try of the attachment', async (_, fault, kind) => {
  media(fault);
  await queue();
  await start();
  await becomes('stored');
  await told('stored');
  expect(kinds('held')).toEqual([kind]);
  expect(archive.events.map(({ type }) => type)).toEqual(['held', 'released', 'stored']);
  expect(await rows()).toMatchObject([{ attempts: 1 }]);
});

test('429 holds the key back; attachments go on once the live loops have found its rate again', async () => {
  media({ kind: 'rate_limited', retryAfter: 0 });
  await queue();
  await start();
  await told('held');
  expect(kinds('held')).toEqual(['rate_limited']);
  const polls = () => simulator.stats.served['sync 200'] ?? 0;
  const before = polls();
  const { signal, stop: end } = stopper();
  const { worker, workerOptions, directory } = replica!;
  const running = supervise(worker, workerOptions, () => directory.connections, 100, signal);
  await becomes('stored');
  // One probe, then two, four, eight at a time.
  expect(polls() - before).toBeGreaterThanOrEqual(3);
  end();
  await running;
});

test('a 404 is believed only of a connection that is reached', async () => {
  const { connection, id } = served[0]!;
  const notFound: Fault = { kind: 'answer', status: 404 };
  simulator.faults.script(notFound, 3, { route: 'status', connection: connection.id });
  media(notFound, 4);
  await queue();
  await start();
  await becomes('unavailable');
  // Four of them, each judged by how the connection stands.
  expect(kinds('held')).toEqual(['not_found', 'not_found', 'not_found']);
  expect(await rows()).toMatchObject([{ message_id: id, attempts: 1, error_kind: 'not_found' }]);
});

test('an attachment that is too large fails once and for all, until somebody says otherwise', async () => {
  const body = randomBytes(5_000);
  const large: Fault = { kind: 'answer', status: 200, body, headers: { 'content-type': 'video/mp4' } };
  media(large);
  // Told in advance, or found on the way.
  media({ ...large, headers: { 'transfer-encoding': 'chunked' } });
  await queue(...served.slice(0, 2));
  await start({ MEDIA_MAX_BYTES: '4096' });
  await becomes('failed', 2);
  expect((await rows()).map((row) => row.error_kind)).toEqual(['oversize', 'oversize']);
  expect(await folder.incoming()).toEqual([]);
  await stop();
  expect(await retryMedia(database.db, { states: ['failed'] })).toBe(2);
  await start();
  await becomes('stored', 2);
});

test('what is not what its message tells of is asked for once more, and then taken at its word', async () => {
  media({ kind: 'truncate' });
  await queue();
  await start();
  await becomes('stored');
  expect((await contentOf((await rows())[0]!.location!)).equals(served[0]!.bytes)).toBe(true);
  const other: Fault = { kind: 'answer', status: 200, body: 'another file' };
  media(other, 2);
  await queue(served[1]!);
  archive.archive.wake();
  await becomes('stored', 2);
  const row = (await rows()).find((one) => one.message_id === served[1]!.id)!;
  expect((await contentOf(row.location!)).toString()).toBe('another file');
});

test('a connection that hangs leaves the others half of the downloads', async () => {
  const [first, second] = [...simulator.world.connections.values()].map((connection) =>
    served.filter((one) => one.connection === connection).slice(0, 6),
  );
  simulator.faults.script({ kind: 'hang' }, 100, { route: 'media', connection: first![0]!.connection.id });
  await queue(...first!);
  await start({ MEDIA_CONCURRENCY: '2', REQUEST_TIMEOUT: '60s' });
  await waitFor(() => simulator.stats.inFlight(first![0]!.connection.id) === 1, { what: 'one that hangs' });
  await queue(...second!);
  archive.archive.wake();
  await becomes('stored', second!.length);
  expect(simulator.stats.inFlight(first![0]!.connection.id)).toBe(1);
});

test('one download at a time goes on while messages are behind', async () => {
  media({ kind: 'hang' }, 100);
  await queue(...served.slice(0, 8));
  replica = await createReplica(env({ MEDIA_CONCURRENCY: '4', REQUEST_TIMEOUT: '60s' }));
  let isBehind = true;
  Object.defineProperty(replica.worker, 'isBehind', { get: () => isBehind });
  archive = await startArchive(replica);
  const inFlight = () =>
    [...simulator.world.connections.keys()].reduce((sum, id) => sum + simulator.stats.inFlight(id), 0);
  const claimed = async () => (await rows()).filter((row) => row.claimed_by !== null).length;
  await waitFor(() => inFlight() === 1, { what: 'one download' });
  expect(await claimed()).toBe(1);
  isBehind = false;
  archive.archive.wake();
  // Half of them are the other connection's.
  await waitFor(() => inFlight() === 2, { what: 'the others' });
  expect(await claimed()).toBe(2);
});

test('while messages are behind, a download begins a second after the one before it', async () => {
  await queue(...served.slice(0, 3));
  replica = await createReplica(env({ MEDIA_CONCURRENCY: '4' }));
  Object.defineProperty(replica.worker, 'isBehind', { get: () => true });
  const at: number[] = [];
  simulator.stats.onRequest = ({ route }) => {
    if (route === 'media') at.push(performance.now());
  };
  archive = await startArchive(replica);
  await becomes('stored', 3);
  simulator.stats.onRequest = null;
  expect(at).toHaveLength(3);
  // The first one also opens the connection: it may be served late.
  for (const [index, ms] of at.slice(1).entries()) expect(ms - at[index]!).toBeGreaterThan(700);
});

test('several processes share a queue, and fetch everything once', async () => {
  const many = served.slice(0, 60);
  await queue(...many);
  const before = simulator.stats.served['media 200'] ?? 0;
  await start();
  const other = await createReplica(env());
  const second = await startArchive(other);
  await becomes('stored', many.length);
  await second.stop();
  await other.close();
  await archive.stop();
  expect((simulator.stats.served['media 200'] ?? 0) - before).toBe(many.length);
  const counts = [archive, second].map(({ events }) => events.filter(({ type }) => type === 'stored').length);
  expect(counts[0]! + counts[1]!).toBe(many.length);
});

test('the oldest is not starved by the newest', async () => {
  const [oldest, ...others] = served.slice(0, 40);
  await queue(oldest!);
  await database.query(`update whatsapp.media set sent_at = now() - interval '29 days'`);
  await queue(...others);
  await start({ MEDIA_CONCURRENCY: '1' });
  await becomes('stored', 40);
  const order = await database.query<{ message_id: string }>(
    'select message_id from whatsapp.media order by stored_at',
  );
  expect(order.findIndex((row) => row.message_id === oldest!.id)).toBeLessThan(4);
});

test('a store that is out of reach holds attachments up, and comes back by itself', async () => {
  const inTheWay = path.join(folder.path, 'archive');
  writeFileSync(inTheWay, '');
  await queue(...served.slice(0, 3));
  const asked = simulator.stats.served['media 200'] ?? 0;
  await start({ MEDIA_STORE: `${folder.url}/archive` });
  await told('stopped');
  expect(kinds('stopped')[0]).toBe('media_store');
  // Nothing is asked for that could not be kept.
  expect(simulator.stats.served['media 200'] ?? 0).toBe(asked);
  rmSync(inTheWay);
  // It may be quicker.
  mkdirSync(inTheWay, { recursive: true });
  await becomes('stored', 3);
  await told('resumed');
});

test('a disk that fills leaves no wrong row and no piece of a file', async (context) => {
  const disk = path.join(folder.path, 'disk');
  mkdirSync(disk);
  const mount = (...args: string[]) => execFileSync('mount', [...args, disk], { stdio: 'ignore' });
  try {
    mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs');
  } catch {
    context.skip('only root may mount a disk that is small');
  }
  try {
    const body = randomBytes(100_000);
    media({ kind: 'answer', status: 200, body }, 1_000);
    await queue();
    await start({ MEDIA_STORE: `${folder.url}/disk` });
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

test('a daemon that is killed in the middle leaves what the next one and the sweep put right', async () => {
  // Its messages are there already; it only finds them due.
  media({ kind: 'trickle', bytes: 20, delayMs: 20 }, 1_000);
  await queue(...served.slice(0, 4));
  const daemon = startCli(['run'], env({ REQUEST_TIMEOUT: '10s' }));
  await waitFor(async () => (await folder.incoming().catch(() => [])).length >= 2, {
    what: 'downloads under way',
    deadlineMs: 30_000,
  });
  await daemon.kill('SIGKILL');
  expect((await folder.incoming()).length).toBeGreaterThan(0);
  simulator.faults.clear();
  const [claimed] = await database.query<{ n: number }>(
    'select count(*)::integer as n from whatsapp.media where claimed_until > now()',
  );
  expect(claimed!.n).toBeGreaterThan(0);
  // As if a minute had passed.
  await database.query('update whatsapp.media set claimed_until = now() where claimed_until is not null');
  await start();
  const all = (await rows()).length;
  await waitFor(async () => (await rows()).every(({ state }) => state !== 'pending'), { what: 'the rest' });
  expect(all).toBeGreaterThanOrEqual(4);
  await sweep(database.db, archive.store, new AbortController().signal, 0);
  expect(await folder.incoming()).toEqual([]);
  const locations = new Set((await rows()).flatMap((row) => row.location ?? []));
  expect((await folder.files()).length).toBe(locations.size);
});

test('a failure of a message that the upstream has forgotten ends it', async () => {
  media({ kind: 'internal' }, 100);
  await queue();
  await database.query(`update whatsapp.media set sent_at = now() - interval '40 days'`);
  await start();
  await becomes('failed');
  expect(await rows()).toMatchObject([{ error_kind: 'upstream' }]);
});

test('a page that brings another attachment takes the download that is under way out of it', async () => {
  media({ kind: 'slow', delayMs: 500 });
  await queue();
  await start();
  await waitFor(async () => (await rows())[0]?.claimed_by, { what: 'the claim' });
  await database.query(`update whatsapp.media set claimed_by = null, claimed_until = null`);
  await becomes('stored');
  expect(await rows()).toMatchObject([{ attempts: 1 }]);
});
