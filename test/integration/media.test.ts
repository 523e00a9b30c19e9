/** Attachments: what is fetched, what is not, and what becomes of a message that changes. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { queueMissed } from '../../src/media/missed.ts';
import { mediaFile } from '../../src/simulator/media.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { queueMessages } from '../../src/store/media-queue.ts';
import { lockState } from '../../src/store/state.ts';
import { useFreshDatabase } from '../support/database.ts';
import {
  contentOf,
  type MediaFolder,
  mediaFolder,
  startArchive,
  type TestArchive,
} from '../support/media.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { startS3 } from '../support/s3.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let folder: MediaFolder;
const workers: TestWorker[] = [];
const archives: TestArchive[] = [];

beforeEach(async () => {
  folder = mediaFolder();
});
afterEach(async () => {
  await Promise.all(archives.splice(0).map((archive) => archive.stop()));
  await Promise.all(workers.splice(0).map((worker) => worker.stop()));
  await simulator.close();
  folder.remove();
});

interface Row {
  connection_id: string;
  message_id: string;
  state: string;
  location: string | null;
  bytes: string | null;
  sha256: string | null;
  mime_type: string | null;
  attempts: number;
  error_kind: string | null;
  error: string | null;
  claimed_by: string | null;
  writing: string | null;
}
const rows = (where = 'true') =>
  database.query<Row & Record<string, unknown>>(
    `select * from whatsapp.media where ${where} order by connection_id, message_id`,
  );

async function start(more: Record<string, string> = {}): Promise<TestWorker> {
  const env = {
    ...quickSettings(database.url, simulator.url),
    ...{ MEDIA_STORE: folder.url, REQUEST_RATE: '10000', ...more },
  };
  const worker = await startWorker(env, { discovers: false });
  workers.push(worker);
  return worker;
}
async function archive(worker: TestWorker, log?: NodeJS.WritableStream): Promise<TestArchive> {
  const one = await startArchive(worker, log);
  archives.push(one);
  return one;
}
const replicated = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
    deadlineMs: 30_000,
  });
const settled = () =>
  waitFor(async () => (await rows(`state = 'pending'`)).length === 0, {
    what: 'the queue to be empty',
    deadlineMs: 30_000,
  });

/** What the simulator holds of a connection's attachments, by message. */
function truth(id: string): Map<string, ReturnType<typeof mediaFile>> {
  const connection = simulator.world.connection(id);
  const carrying = connection.messages.filter((one) => one.media > 0 && one.contentType !== 'text');
  return new Map(
    carrying.map((one) => [connection.messageId(one.index), mediaFile(one.contentType, one.media)]),
  );
}

test('every attachment that is served is kept, byte for byte, and the others are known to be gone', async () => {
  simulator = await startSimulator({ connections: 2, messages: 600 });
  const worker = await start();
  await replicated();
  const { events } = await archive(worker);
  await settled();
  const wanted = [...simulator.world.connections.keys()].flatMap((id) =>
    [...truth(id)].map(([message_id, file]) => ({ connection_id: id, message_id, file })),
  );
  const all = await rows();
  expect(all.length).toBe(wanted.length);
  const found = new Map(all.map((row) => [`${row.connection_id} ${row.message_id}`, row]));
  const contents = new Set<string>();
  for (const { connection_id, message_id, file } of wanted) {
    const row = found.get(`${connection_id} ${message_id}`)!;
    if (!file.available) {
      expect(row).toMatchObject({ state: 'unavailable', location: null, error_kind: 'not_found' });
      continue;
    }
    expect(row).toMatchObject({
      state: 'stored',
      bytes: String(file.bytes.length),
      sha256: createHash('sha256').update(file.bytes).digest('hex'),
      mime_type: file.mimeType.split(';')[0],
      ...{ claimed_by: null, writing: null, attempts: 1 },
    });
    expect((await contentOf(row.location!)).equals(file.bytes)).toBe(true);
    // Nothing of the upstream's name, and the extension is of the type.
    expect(row.location).toMatch(/\/[0-9a-f]{2}\/[0-9a-f]{2}\/[0-9a-f]{64}\.(jpg|ogg|mp4|pdf)$/);
    contents.add(row.location!);
  }
  // One file a content, whatever the number of messages.
  expect(contents.size).toBeLessThan(all.filter((row) => row.state === 'stored').length);
  expect((await folder.files()).length).toBe(contents.size);
  expect(await folder.incoming()).toEqual([]);
  const count = all.filter((row) => row.state === 'stored').length;
  // The last one is told of after its row was written.
  await waitFor(() => events.filter(({ type }) => type === 'stored').length >= count, { what: 'the events' });
  expect(events.filter(({ type }) => type === 'stored').length).toBe(count);
  const view = await database.query(
    `select from whatsapp.message_media v join whatsapp.messages m using (connection_id, message_id)
      where v.location like 'file:%' and v.bytes > 0 and v.mime_type is not null`,
  );
  expect(view.length).toBe(all.filter((row) => row.state === 'stored').length);
});

test('in a bucket', async () => {
  const s3 = await startS3('archive');
  simulator = await startSimulator({ connections: 1, messages: 60 });
  const worker = await start({
    ...{ MEDIA_STORE: 's3://archive/of/whatsapp', MEDIA_S3_ENDPOINT: s3.endpoint.href },
  });
  await replicated();
  await archive(worker);
  await settled();
  const stored = await rows(`state = 'stored'`);
  expect(stored.length).toBeGreaterThan(5);
  const files = truth([...simulator.world.connections.keys()][0]!);
  for (const { message_id, location } of stored) {
    const key = location!.slice('s3://archive/'.length);
    expect(key).toMatch(/^of\/whatsapp\/..\/..\/[0-9a-f]{64}\.[a-z0-9]{3}$/);
    expect((await s3.read('archive', key)).equals(files.get(message_id)!.bytes)).toBe(true);
  }
  await archives.pop()!.stop();
  await s3.stop();
});

test('with MEDIA_STORE=off nothing is queued, and what came meanwhile is queued when it is on', async () => {
  simulator = await startSimulator({ connections: 1, messages: 300 });
  await start({ MEDIA_STORE: 'off' });
  await replicated();
  expect(await rows()).toEqual([]);
  const id = [...simulator.world.connections.keys()][0]!;
  const month = 30 * 86_400_000;
  const first = await queueMissed(database.db, id, month, false, undefined);
  expect(first).toEqual({ queued: truth(id).size, next: undefined });
  expect(await queueMissed(database.db, id, month, false, undefined)).toEqual({ queued: 0, next: undefined });
  // Of the window alone.
  await database.query('truncate whatsapp.media');
  const week = await queueMissed(database.db, id, 7 * 86_400_000, false, undefined);
  expect(week.queued).toBeGreaterThan(0);
  expect(week.queued).toBeLessThan(first.queued);
});

test('what carries no attachment any more once its turn comes is not queued', async () => {
  simulator = await startSimulator({ connections: 1, messages: 0 });
  const image = { conversation_id: 'c', content_type: 'image', sent_at: '2026-11-01T10:00:00Z', seq: 1 };
  const messages = [
    { ...image, message_id: 'm1' },
    { ...image, message_id: 'm2', content_type: 'text' },
    { ...image, message_id: 'm3', deleted_at: '2026-11-01T11:00:00Z' },
  ];
  await applyAnswer(database.db, { cursor: 1, messages });
  const ids = ['m1', 'm2', 'm3', 'of nobody'];
  expect(await queueMessages(database.db, CONNECTION, ids, true)).toBe(1);
  expect(await rows()).toMatchObject([{ message_id: 'm1' }]);
  expect(await queueMessages(database.db, CONNECTION, ids, false)).toBe(1);
});

test('of many that were sent at one time none is passed over', async () => {
  simulator = await startSimulator({ connections: 1, messages: 0 });
  await ensureConnections(database.db, [CONNECTION]);
  await database.query(
    `insert into whatsapp.messages (connection_id, message_id, content_type, sent_at)
    select $1, 'm' || n, 'image', now() from generate_series(1, 5001) n`,
    [CONNECTION],
  );
  const day = 86_400_000;
  const { queued, next } = await queueMissed(database.db, CONNECTION, day, false, undefined);
  expect(queued).toBe(5_000);
  expect(await queueMissed(database.db, CONNECTION, day, false, next)).toEqual({
    queued: 1,
    next: undefined,
  });
});

test('what is erased while it is about to be queued is not queued', async () => {
  simulator = await startSimulator({ connections: 1, messages: 100 });
  const worker = await start({ MEDIA_STORE: 'off' });
  await replicated();
  await Promise.all(workers.splice(0).map((one) => one.stop()));
  const id = [...simulator.world.connections.keys()][0]!;
  expect(truth(id).size).toBeGreaterThan(2);
  let queueing: ReturnType<typeof queueMissed> | undefined;
  const [kept] = truth(id).keys();
  await database.db.transaction().execute(async (trx) => {
    await lockState(trx, id);
    queueing = queueMissed(database.db, id, worker.settings.RETENTION_WINDOW, false, undefined);
    await waitFor(
      async () =>
        (
          await database.query(`select 1 from pg_locks l join pg_stat_activity a using (pid)
          where not l.granted and a.datname = current_database()`)
        ).length > 0,
      { what: 'the queue to wait for the erasure' },
    );
    await trx.deleteFrom('messages').where('message_id', '<>', kept!).execute();
  });
  expect(await queueing).toMatchObject({ queued: 1 });
  expect(await rows()).toMatchObject([{ message_id: kept }]);
});

describe('a message that changes', () => {
  const message = (more: Record<string, unknown>) => ({
    cursor: more.seq as number,
    messages: [
      {
        ...{
          message_id: 'm1',
          conversation_id: 'c1',
          content_type: 'image',
          sent_at: '2026-11-01T10:00:00Z',
        },
        ...more,
      },
    ],
  });
  const keep = { media: true };
  const redact = { media: true, history: { on: true, deletedMessages: 'redact' as const } };
  const stored = () =>
    database.query(`update whatsapp.media set state = 'stored', location = 'file:///there', attempts = 1`);

  beforeEach(async () => {
    simulator = await startSimulator({ connections: 1, messages: 0 });
  });

  test.each([
    [{ content_type: 'text' }, 0],
    [{ content_type: 'text', media: {} }, 0],
    [{ content_type: 'text', media: null }, 0],
    [{ content_type: 'reaction' }, 0],
    [{ content_type: null }, 0],
    [{ content_type: 'text', media: { mime_type: 'image/jpeg' } }, 1],
    [{ content_type: 'sticker' }, 1],
    [{ content_type: 'something new', media: {} }, 1],
    [{ content_type: null, media: { a: [1] } }, 1],
  ])('%j is queued or not', async (fields, count) => {
    await applyAnswer(database.db, message({ seq: 1, ...fields }), keep);
    expect((await rows()).length).toBe(count);
  });

  test('in its receipts and its text leaves its attachment alone', async () => {
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 }, status: 'sent' }), keep);
    await stored();
    const [before] = await database.query('select xmin, ctid from whatsapp.media');
    await applyAnswer(database.db, message({ seq: 2, media: { a: 1 }, status: 'read', body: 'new' }), keep);
    expect(await database.query('select xmin, ctid from whatsapp.media')).toEqual([before]);
  });

  test('in its attachment is fetched anew, and keeps the file that it has until then', async () => {
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await stored();
    await database.query(`update whatsapp.media set claimed_by = 'a download', writing = 'file:///first'`);
    await applyAnswer(database.db, message({ seq: 2, media: { a: 2 } }), keep);
    const anew = { state: 'pending', location: 'file:///there', attempts: 0 };
    expect(await rows()).toMatchObject([{ ...anew, claimed_by: null, writing: null }]);
    await stored();
    // What came late is not newer.
    await applyAnswer(database.db, { ...message({ seq: 1, media: { a: 3 } }), cursor: 3 }, keep);
    expect(await rows()).toMatchObject([{ state: 'stored' }]);
  });

  test('by its deletion keeps its file, or loses it with DELETED_MESSAGES=redact', async () => {
    const deleted = { content_type: 'text', media: {}, deleted_at: '2026-11-01T11:00:00Z' };
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await stored();
    await applyAnswer(database.db, message({ seq: 2, media: { a: 1 }, body: 'edited' }), redact);
    expect(await rows()).toMatchObject([{ state: 'stored', location: 'file:///there' }]);
    await applyAnswer(database.db, message({ seq: 3, ...deleted }), keep);
    expect(await rows()).toMatchObject([{ state: 'stored', location: 'file:///there' }]);
    await applyAnswer(database.db, message({ seq: 4, ...deleted, body: 'x' }), redact);
    expect(await rows()).toEqual([]);
    // One that comes deleted is not fetched either.
    await applyAnswer(
      database.db,
      message({ seq: 5, ...deleted, content_type: 'image', media: { a: 1 } }),
      redact,
    );
    expect(await rows()).toEqual([]);
  });

  test('by its deletion while MEDIA_STORE was off loses it with the next round', async () => {
    const { redactMedia } = await import('../../src/store/media-queue.ts');
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await applyAnswer(database.db, message({ seq: 2, deleted_at: '2026-11-01T11:00:00Z' }), { media: false });
    expect(await rows()).toHaveLength(1);
    expect(await redactMedia(database.db, 'conn_test')).toBe(1);
    expect(await redactMedia(database.db, 'conn_test')).toBe(0);
    expect(await rows()).toEqual([]);
  });

  test('a page that is rolled back queues nothing', async () => {
    const crash = () => {
      throw new Error('killed');
    };
    await expect(
      applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), { ...keep, reached: crash }),
    ).rejects.toThrow();
    expect(await rows()).toEqual([]);
  });
});
