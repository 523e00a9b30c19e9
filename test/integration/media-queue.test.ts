/** Which attachments are fetched next, by whom, and how many at a time. */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { sweep } from '../../src/media/sweep.ts';
import { startCli } from '../support/cli.ts';
import { startArchive } from '../support/media.ts';
import { createReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { MediaScene } from './media-scene.ts';

const scene = MediaScene.use();
const { start, rows, queue, becomes, fails } = scene;

test('a connection that hangs leaves the others half of the downloads', async () => {
  const [first, second] = [...scene.simulator.world.connections.values()].map((connection) =>
    scene.served.filter((one) => one.connection === connection).slice(0, 6),
  );
  scene.simulator.faults.script({ kind: 'hang' }, 100, {
    route: 'media',
    connection: first![0]!.connection.id,
  });
  await queue(...first!);
  await start({ MEDIA_CONCURRENCY: '2', REQUEST_TIMEOUT: '60s' });
  await waitFor(() => scene.simulator.stats.inFlight(first![0]!.connection.id) === 1, {
    what: 'one that hangs',
  });
  await queue(...second!);
  scene.archive.archive.wake();
  await becomes('stored', second!.length);
  expect(scene.simulator.stats.inFlight(first![0]!.connection.id)).toBe(1);
});

test('one download at a time goes on while messages are behind', async () => {
  fails({ kind: 'hang' }, 100);
  await queue(...scene.served.slice(0, 8));
  let isBehind = true;
  await start({ MEDIA_CONCURRENCY: '4', REQUEST_TIMEOUT: '60s' }, ({ worker }) =>
    Object.defineProperty(worker, 'isBehind', { get: () => isBehind }),
  );
  const inFlight = () =>
    [...scene.simulator.world.connections.keys()].reduce(
      (sum, id) => sum + scene.simulator.stats.inFlight(id),
      0,
    );
  const claimed = async () => (await rows()).filter((row) => row.claimed_by !== null).length;
  await waitFor(() => inFlight() === 1, { what: 'one download' });
  expect(await claimed()).toBe(1);
  isBehind = false;
  scene.archive.archive.wake();
  // Half of them are the other connection's.
  await waitFor(() => inFlight() === 2, { what: 'the others' });
  expect(await claimed()).toBe(2);
});

test('while messages are behind, a download begins a second after the one before it', async () => {
  await queue(...scene.served.slice(0, 3));
  const at: number[] = [];
  scene.simulator.stats.onRequest = ({ route }) => {
    if (route === 'media') at.push(performance.now());
  };
  await start({ MEDIA_CONCURRENCY: '4' }, ({ worker }) =>
    Object.defineProperty(worker, 'isBehind', { get: () => true }),
  );
  await becomes('stored', 3);
  scene.simulator.stats.onRequest = null;
  expect(at).toHaveLength(3);
  // The first one also opens the connection: it may be served late.
  for (const [index, ms] of at.slice(1).entries()) expect(ms - at[index]!).toBeGreaterThan(500);
});

test('several processes share a queue, and fetch everything once', async () => {
  const many = scene.served.slice(0, 60);
  await queue(...many);
  const before = scene.simulator.stats.served['media 200'] ?? 0;
  await start();
  const other = await createReplica(scene.env());
  const second = await startArchive(other);
  await becomes('stored', many.length);
  await second.stop();
  await other.close();
  await scene.archive.stop();
  expect((scene.simulator.stats.served['media 200'] ?? 0) - before).toBe(many.length);
  const counts = [scene.archive, second].map(
    ({ events }) => events.filter(({ type }) => type === 'stored').length,
  );
  expect(counts[0]! + counts[1]!).toBe(many.length);
});

test('the oldest is not starved by the newest', async () => {
  const [oldest, ...others] = scene.served.slice(0, 40);
  await queue(oldest!);
  await scene.database.query(`update whatsapp.media set sent_at = now() - interval '29 days'`);
  await queue(...others);
  await start({ MEDIA_CONCURRENCY: '1' });
  await becomes('stored', 40);
  const order = await scene.database.query<{ message_id: string }>(
    'select message_id from whatsapp.media order by stored_at',
  );
  expect(order.findIndex((row) => row.message_id === oldest!.id)).toBeLessThan(4);
});

test('a few that are refused for good, the newest of all, do not keep the others waiting', async () => {
  const { connection } = scene.served[0]!;
  const all = scene.served.filter((one) => one.connection === connection);
  const lost = all.slice(0, 4).map(({ id }) => id);
  const upstream = new URL(scene.simulator.url);
  const between = createServer((asked, response) => {
    const { url: path = '', method, headers } = asked;
    if (lost.includes(decodeURIComponent(path.split('/').at(-1)!))) return void response.writeHead(502).end();
    request({ host: upstream.hostname, port: upstream.port, path, method, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(response);
    }).end();
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  try {
    await queue(...all);
    await scene.database.query(
      `update whatsapp.media set sent_at = now() - interval '1 hour' where message_id <> all ($1)`,
      [lost],
    );
    // As by default: a connection that is held back for four refusals in a row is held back for long.
    const env = { BACKOFF_MIN: '1s', BACKOFF_MAX: '5m', MEDIA_CONCURRENCY: '4' };
    const { port } = between.address() as AddressInfo;
    await start({ ...env, WHATSAPP_USE_BASE_URL: `http://127.0.0.1:${port}` });
    await becomes('stored', all.length - lost.length);
  } finally {
    between.closeAllConnections();
    between.close();
  }
});

test('a daemon that is killed in the middle leaves what the next one and the sweep put right', async () => {
  // Its messages are there already; it only finds them due.
  fails({ kind: 'trickle', bytes: 20, delayMs: 20 }, 1_000);
  await queue(...scene.served.slice(0, 4));
  const daemon = startCli(['run'], scene.env({ REQUEST_TIMEOUT: '10s' }));
  await waitFor(async () => (await scene.folder.incoming().catch(() => [])).length >= 2, {
    what: 'downloads under way',
  });
  await daemon.kill('SIGKILL');
  expect((await scene.folder.incoming()).length).toBeGreaterThan(0);
  scene.simulator.faults.clear();
  const [claimed] = await scene.database.query<{ n: number }>(
    'select count(*)::integer as n from whatsapp.media where claimed_until > now()',
  );
  expect(claimed!.n).toBeGreaterThan(0);
  // As if a minute had passed.
  await scene.database.query(
    'update whatsapp.media set claimed_until = now() where claimed_until is not null',
  );
  await start();
  const all = (await rows()).length;
  await waitFor(async () => (await rows()).every(({ state }) => state !== 'pending'), { what: 'the rest' });
  expect(all).toBeGreaterThanOrEqual(4);
  await sweep(scene.database.db, scene.archive.store, new AbortController().signal, 0);
  expect(await scene.folder.incoming()).toEqual([]);
  const locations = new Set((await rows()).flatMap((row) => row.location ?? []));
  expect((await scene.folder.files()).length).toBe(locations.size);
});
