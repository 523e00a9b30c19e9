import pg from 'pg';
import { expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const scene = OneConnection.use();

test('what is announced while the last page is there already is polled for as soon as that is written', async () => {
  await scene.upstream({ messages: 20 });
  const limits = { PAGE_LIMIT: '10', PAGE_LIMIT_MAX: '10' };
  await scene.replicate({ ...limits, POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '30s' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  await waitFor(() => scene.worker.worker.health[0]!.interval > 0, { what: 'the end of the backlog' });
  const conversation = scene.connection.conversations[0]!;
  const add = () => scene.connection.addMessage({ conversation, touchConversation: false });
  const locker = new pg.Client({ connectionString: scene.database.url });
  await locker.connect();
  try {
    // The first page waits to be written, while the second one, which is the last, comes ahead.
    await locker.query('begin');
    await locker.query('select from whatsapp.sync_state for update');
    for (let n = 0; n < 15; n++) add();
    const mark = scene.asked.length;
    scene.worker.worker.wake(ID);
    await waitFor(() => scene.asked.length === mark + 2, { what: 'the page ahead' });
    add();
    scene.worker.worker.wake(ID);
  } finally {
    await locker.end();
  }
  await waitFor(scene.agrees, { what: 'what was announced' });
  expect(scene.failures()).toEqual([]);
});

test('a page ahead that is dropped gives back the room that it took', async () => {
  // Some hundred pages: the backlog lasts longer than the locks take to be had.
  await scene.upstream({ messages: 1000 });
  // There is room for four answers.
  const limits = { PAGE_LIMIT: '10', PAGE_LIMIT_MAX: '10', MAX_RESPONSE_BYTES: '64KiB' };
  const locker = new pg.Client({ connectionString: scene.database.url });
  await locker.connect();
  let mark = 0;
  try {
    await scene.replicate({ ...limits, LEASE_TTL: '30s' });
    await waitFor(() => scene.asked.length > 2, { what: 'pages' });
    for (let round = 0; round < 5; round++) {
      // A page waits to be written, while the next one comes ahead; then all begins anew.
      await locker.query('begin');
      const { rows } = await locker.query('select cursor from whatsapp.sync_state for update');
      const isAhead = (what: string) => BigInt(what.split(' ')[0]!) > BigInt(rows[0].cursor);
      await waitFor(() => scene.since(mark).some(isAhead), { what: 'the page ahead' });
      await locker.query('update whatsapp.sync_state set epoch = epoch + 1, cursor = 0');
      mark = scene.asked.length;
      await locker.query('commit');
      // Else the lock may be had again before the page that waits for it, which then waits on.
      await waitFor(() => scene.worker.told('fenced').length > round, { what: 'the page to be fenced' });
    }
  } finally {
    await locker.end();
  }
  await waitFor(scene.agrees, { what: 'the end' });
  expect(scene.worker.told('fenced')).toHaveLength(5);
  expect(scene.failures()).toEqual([]);
});

test('what is announced is polled for at once, and then not before a second has passed', async () => {
  await scene.upstream({ messages: 20 });
  await scene.replicate({ POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  await waitFor(() => scene.worker.worker.health[0]!.interval > 0, { what: 'the end of the backlog' });
  const mark = scene.asked.length;
  scene.worker.worker.wake(ID);
  await waitFor(() => scene.asked.length >= mark + 2, { what: 'two polls' });
  const [first, second] = scene.asked.slice(mark);
  // The upstream may see the first one late.
  expect(second!.at - first!.at).toBeGreaterThan(500);
});
