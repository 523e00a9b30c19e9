/** How the keys share the downloads. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { mediaFile } from '../../src/simulator/media.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useFreshDatabase } from '../support/database.ts';
import { mediaFolder, startArchive, type TestArchive } from '../support/media.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useFreshDatabase({ migrated: true });
const folder = mediaFolder();
let simulator: Simulator;
let replica: TestReplica;
let archive: TestArchive;
beforeAll(async () => {
  const keys = [
    { key: 'pa_live_one', connections: ['conn_a', 'conn_b', 'conn_c'] },
    { key: 'pa_live_two', connections: ['conn_d'] },
  ];
  simulator = await startSimulator({
    connections: keys.flatMap((one) => one.connections),
    messages: 400,
    keys,
  });
});
afterEach(async () => {
  await archive.stop();
  await replica.close();
});
afterAll(async () => {
  await simulator.close();
  folder.remove();
});

/** Queues attachments that are served, the later the newer. */
async function queue(connectionId: string, count: number): Promise<void> {
  const connection = simulator.world.connections.get(connectionId)!;
  const served = connection.messages.filter(
    ({ contentType, media }) =>
      media > 0 && contentType !== 'text' && mediaFile(contentType, media).available,
  );
  for (const { index } of served.slice(0, count)) {
    await database.query('insert into whatsapp.media (connection_id, message_id) values ($1, $2)', [
      connectionId,
      connection.messageId(index),
    ]);
  }
}

const stored = async (connectionId: string) =>
  (
    await database.query(`select from whatsapp.media where state = 'stored' and connection_id = $1`, [
      connectionId,
    ])
  ).length;

test('the connections of a key that is limited take no download from those of another', async () => {
  const limited = { kind: 'rate_limited', retryAfter: 600 } as const;
  simulator.faults.script(limited, 1, { route: 'media', connection: 'conn_a' });
  await queue('conn_a', 1);
  replica = await createReplica({
    ...quickSettings(database.url, simulator.url),
    WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two',
    ...{ MEDIA_STORE: folder.url, MEDIA_CONCURRENCY: '2', BACKOFF_MAX: '5m' },
  });
  archive = await startArchive(replica);
  await waitFor(() => archive.events.some(({ type }) => type === 'held'), { what: 'the key to be limited' });
  await queue('conn_d', 8);
  await queue('conn_b', 4);
  await queue('conn_c', 4);
  archive.archive.wake();
  await waitFor(async () => (await stored('conn_d')) === 8, { what: "the other key's" });
  expect([await stored('conn_b'), await stored('conn_c')]).toEqual([0, 0]);
});
