/** What may go wrong with an attachment and its connection; none of it is the messages' matter. */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { sql } from 'kysely';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import { retryMedia } from '../../src/store/media-report.ts';
import { contentOf } from '../support/media.ts';
import { waitFor } from '../support/wait.ts';
import { MediaScene } from './media-scene.ts';

const scene = MediaScene.use();
const { start, stop, rows, queue, becomes, told, fails, kinds } = scene;

test.each<[string, Fault, string]>([
  ['a body that is cut', { kind: 'cut' }, 'network'],
  ['a connection that ends', { kind: 'drop' }, 'network'],
  ['no answer', { kind: 'hang' }, 'timeout'],
  ['a body that stands still', { kind: 'trickle', bytes: 10, delayMs: 60_000 }, 'timeout'],
  ['500', { kind: 'internal' }, 'upstream'],
  [
    '500 that asks for a day',
    { kind: 'answer', status: 500, headers: { 'retry-after': '86400' } },
    'upstream',
  ],
  ["a proxy's page", { kind: 'html' }, 'protocol'],
  [
    'a file that was compressed unasked',
    { kind: 'answer', status: 200, body: gzipSync('file'), headers: { 'content-encoding': 'gzip' } },
    'protocol',
  ],
  ['an empty file', { kind: 'answer', status: 200, body: '' }, 'protocol'],
])('%s is tried again, and leaves nothing behind', async (_, fault, kind) => {
  fails(fault);
  await queue();
  await start();
  await becomes('stored');
  expect(kinds('again')).toEqual([kind]);
  const [row] = await rows();
  expect(row).toMatchObject({ attempts: 2, error_kind: null, claimed_by: null, writing: null });
  expect((await contentOf(row!.location!)).equals(scene.served[0]!.bytes)).toBe(true);
  expect(await scene.folder.incoming()).toEqual([]);
});

test.each<[string, Fault, string]>([
  ['a refused key', { kind: 'answer', status: 401 }, 'unauthorized'],
  ['no subscription', { kind: 'answer', status: 402 }, 'payment_required'],
])('%s holds its connection back, and is no try of the attachment', async (_, fault, kind) => {
  fails(fault);
  await queue();
  await start();
  await becomes('stored');
  await told('stored');
  expect(kinds('held')).toEqual([kind]);
  expect(scene.archive.events.map(({ type }) => type)).toEqual(['held', 'released', 'stored']);
  expect(await rows()).toMatchObject([{ attempts: 1 }]);
});

const stands = (body: string): Fault => ({ kind: 'answer', status: 200, body });
test.each<[number, string, string, Fault]>([
  [503, 'not_ready', 'does not tell how it stands', { kind: 'unavailable' }],
  [503, 'not_ready', 'is not connected', stands('{"paired":true,"connected":false}')],
  [409, 'not_paired', 'is not paired', stands('{"paired":false}')],
  [403, 'unauthorized', 'is not connected', stands('{"connected":false}')],
])(
  '%i (%s) holds a connection back that %s, and is no try of the attachment',
  async (status, kind, _, standing) => {
    const { connection } = scene.served[0]!;
    scene.simulator.faults.script(standing, 1, { route: 'status', connection: connection.id });
    fails({ kind: 'answer', status });
    await queue();
    await start();
    await becomes('stored');
    expect(kinds('held')).toEqual([kind]);
    expect(kinds('again')).toEqual([]);
    expect(await rows()).toMatchObject([{ attempts: 1 }]);
  },
);

test('one that is refused while its connection stands is delayed alone', async () => {
  for (const fault of [{ kind: 'bad_gateway' }, { kind: 'answer', status: 403 }] as const) fails(fault);
  await queue();
  await start();
  await becomes('stored');
  expect(kinds('again')).toEqual(['not_ready', 'unauthorized']);
  expect(kinds('held')).toEqual([]);
  expect(await rows()).toMatchObject([{ attempts: 3 }]);
});

test('429 holds the key back; attachments find its rate again where no live loop does', async () => {
  fails({ kind: 'rate_limited', retryAfter: 0 });
  await queue(...scene.served.slice(0, 6));
  await start();
  await becomes('stored', 6);
  expect(kinds('held')).toEqual(['rate_limited']);
});

test('an attachment that is too large fails once and for all, until somebody says otherwise', async () => {
  const body = randomBytes(5_000);
  const large: Fault = { kind: 'answer', status: 200, body, headers: { 'content-type': 'video/mp4' } };
  fails(large);
  // Told in advance, or found on the way.
  fails({ ...large, headers: { 'transfer-encoding': 'chunked' } });
  await queue(...scene.served.slice(0, 2));
  await start({ MEDIA_MAX_BYTES: '4096' });
  await becomes('failed', 2);
  expect((await rows()).map((row) => row.error_kind)).toEqual(['oversize', 'oversize']);
  expect(await scene.folder.incoming()).toEqual([]);
  await stop();
  expect(await retryMedia(scene.database.db, { states: ['failed'] })).toBe(2);
  await start();
  await becomes('stored', 2);
});

test('one that is too large shows all the same that its connection is reached', async () => {
  fails({ kind: 'answer', status: 401 });
  fails({ kind: 'answer', status: 200, body: randomBytes(5_000) });
  await queue();
  await start({ MEDIA_MAX_BYTES: '4096' });
  await told('gone');
  expect(scene.archive.events.map(({ type }) => type)).toEqual(['held', 'released', 'gone']);
});

test('what is not what its message tells of is asked for once more, and then taken at its word', async () => {
  fails({ kind: 'truncate' });
  await queue();
  await start();
  await becomes('stored');
  expect((await contentOf((await rows())[0]!.location!)).equals(scene.served[0]!.bytes)).toBe(true);
  const other: Fault = { kind: 'answer', status: 200, body: 'another file' };
  fails(other, 2);
  await queue(scene.served[1]!);
  scene.archive.archive.wake();
  await becomes('stored', 2);
  const row = (await rows()).find((one) => one.message_id === scene.served[1]!.id)!;
  expect((await contentOf(row.location!)).toString()).toBe('another file');
  expect(await scene.folder.incoming()).toEqual([]);
});

test('large pages of something in between keep no socket', async () => {
  const headers = { 'content-type': 'text/html' };
  fails({ kind: 'answer', status: 200, body: Buffer.alloc(2_000_000, '<'), headers }, 3);
  await queue();
  await start({ MEDIA_CONCURRENCY: '1' });
  await becomes('stored');
  expect(kinds('again')).toEqual(['protocol', 'protocol', 'protocol']);
});

test('a file whose message is erased while it is put into the store goes again', async () => {
  await start();
  const { store } = scene.archive;
  const put = store.put.bind(store);
  let files: string[] = [];
  store.put = async (...args) => {
    await put(...args);
    files = await scene.folder.files();
    await scene.database.query('truncate whatsapp.media');
  };
  await queue();
  scene.archive.archive.wake();
  await waitFor(() => files.length === 1, { what: 'the file to be put' });
  await waitFor(async () => (await scene.folder.files()).length === 0, { what: 'it to go' });
});

test('a file that another takes the place of goes with it', async () => {
  await queue();
  await start();
  await becomes('stored');
  fails({ kind: 'answer', status: 200, body: 'another file' }, 2);
  await scene.database.query(`update whatsapp.media set state = 'pending'`);
  scene.archive.archive.wake();
  const alone = async () => {
    const files = await scene.folder.files();
    return files.length === 1 && (await rows())[0]!.location!.endsWith(files[0]!) && files[0];
  };
  const [first] = await scene.folder.files();
  await waitFor(async () => ((await alone()) || first) !== first, { what: 'the other file alone' });
});

test('two that are neither alike nor what the message tells of are tried again', async () => {
  for (const body of ['one file', 'another file']) fails({ kind: 'answer', status: 200, body });
  await queue();
  await start();
  await becomes('stored');
  expect(kinds('again')).toEqual(['protocol']);
  expect(await scene.folder.incoming()).toEqual([]);
  expect((await contentOf((await rows())[0]!.location!)).equals(scene.served[0]!.bytes)).toBe(true);
});

test('a file that takes longer than MEDIA_TIMEOUT delays itself alone', async () => {
  fails({ kind: 'trickle', bytes: 10, delayMs: 400 });
  await queue();
  await start({ MEDIA_TIMEOUT: '1s' });
  await becomes('stored');
  expect(kinds('again')).toEqual(['timeout']);
  expect(kinds('stopped')).toEqual([]);
});

test.each<[Fault, string]>([
  [{ kind: 'internal' }, 'upstream'],
  [{ kind: 'bad_gateway' }, 'not_ready'],
])('%j of a message that the upstream has forgotten ends it', async (fault, kind) => {
  fails(fault, 100);
  await queue();
  await scene.database.query(`update whatsapp.media set sent_at = now() - interval '40 days'`);
  await start();
  await becomes('failed');
  expect(await rows()).toMatchObject([{ error_kind: kind }]);
  // Told as what it is: nobody tries it again.
  await told('gone');
  expect(scene.archive.events).toMatchObject([{ type: 'gone', state: 'failed' }]);
});

test('nothing is given up just beyond the window: the upstream may be late to forget', async () => {
  fails({ kind: 'internal' });
  await queue();
  await scene.database.query(`update whatsapp.media set sent_at = now() - interval '31 days'`);
  await start();
  await becomes('stored');
  expect(kinds('again')).toEqual(['upstream']);
});

test('a page that brings another attachment takes the download that is under way out of it', async () => {
  fails({ kind: 'slow', delayMs: 500 });
  await queue();
  await start();
  await waitFor(async () => (await rows())[0]?.claimed_by, { what: 'the claim' });
  await scene.database.query(`update whatsapp.media set claimed_by = null, claimed_until = null`);
  await becomes('stored');
  expect(await rows()).toMatchObject([{ attempts: 1 }]);
  await waitFor(async () => (await scene.folder.incoming()).length === 0, { what: 'the first file to go' });
});

test('what takes long is held as long', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  onTestFinished(() => void vi.useRealTimers());
  fails({ kind: 'hang' });
  await queue();
  await start({ REQUEST_TIMEOUT: '1m' });
  const until = async () => ((await rows())[0]?.claimed_until as Date | null)?.getTime() ?? 0;
  const first = await waitFor(until, { what: 'the claim' });
  vi.advanceTimersByTime(20_000);
  await waitFor(async () => (await until()) > first, { what: 'the claim to be renewed' });
});

test('what is in hand when it is told to stop is given back, and is no try, though it waits for Postgres then', async () => {
  fails({ kind: 'hang' });
  await queue();
  await start({ REQUEST_TIMEOUT: '1m' });
  await waitFor(async () => (await rows())[0]?.claimed_by, { what: 'the claim' });
  let stopped: Promise<void> | undefined;
  await scene.database.db.transaction().execute(async (trx) => {
    await sql`lock table ${sql.table('media')} in access exclusive mode`.execute(trx);
    scene.archive.archive.wake();
    const waiting = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
    await waitFor(async () => (await scene.database.query(waiting)).length > 0, { what: 'it to wait' });
    stopped = stop();
    // The download ends meanwhile.
    await sql`select pg_sleep(0.1)`.execute(trx);
  });
  await stopped;
  expect(await rows()).toMatchObject([{ state: 'pending', claimed_by: null, attempts: 0, error_kind: null }]);
});
