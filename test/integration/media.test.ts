/** Attachments: what is fetched, what is not, and what becomes of a message that changes. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { queueMissed } from '../../src/media/missed.ts';
import { mediaFile } from '../../src/simulator/media.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { lockState } from '../../src/store/state.ts';
import { useFreshDatabase } from '../support/database.ts';
import {
  contentOf,
  type MediaFolder,
  mediaFolder,
  startArchive,
  type TestArchive,
} from '../support/media.ts';
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
  });
const settled = () =>
  waitFor(async () => (await rows(`state = 'pending'`)).length === 0, {
    what: 'the queue to be empty',
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
