import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useDaemons } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

/* The daemon's notice that the feed has grown, alone: nothing here looks at the feed unless it is told to. */

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let consumer: pg.Client;
beforeAll(async () => {
  simulator = await startSimulator({ connections: 2, messages: 200 });
  consumer = new pg.Client({ connectionString: database.url });
  await consumer.connect();
});
const daemons = useDaemons(() => quickSettings(database.url, simulator.url));
afterAll(async () => {
  await daemons.stopAll();
  await consumer.end();
  await simulator.close();
});

test('wakes a consumer that listens and does not poll, and comes with changes only', async () => {
  let notices = 0;
  let had = 0;
  let reading = Promise.resolve();
  const read = async () => {
    for (;;) {
      const { rows } = await consumer.query<{ connection_id: string; change_no: string }>(
        `select connection_id, change_no from whatsapp.read_changes('crm')`,
      );
      if (rows.length === 0) return;
      had += rows.length;
      const done = Object.fromEntries(rows.map((row) => [row.connection_id, row.change_no]));
      await consumer.query(`select whatsapp.ack_changes('crm', $1)`, [JSON.stringify(done)]);
    }
  };
  consumer.on('notification', () => {
    notices++;
    reading = reading.then(read);
  });
  await consumer.query('listen whatsapp_changes');

  daemons.start();
  const all = async () => {
    const [row] = await database.query<{ n: number }>(
      'select sum(last_change_no)::integer as n from whatsapp.sync_state',
    );
    return row?.n ?? 0;
  };
  const hasAll = async () =>
    (await differencesFromTruth(database.db, simulator)).length === 0 && had === (await all());
  await waitFor(hasAll, { what: 'the backlog to be read' });
  const before = had;
  expect(before).toBeGreaterThan(200);
  simulator.world.applyChanges(30);
  await waitFor(hasAll, { what: 'the changes to be read' });
  expect(had).toBeGreaterThan(before);

  // Polls that bring nothing ring no bell; the last one of before may still be on its way.
  const polls = (count: number) => {
    const until = simulator.stats.total + count;
    return waitFor(() => simulator.stats.total >= until, { what: `${count} polls` });
  };
  await polls(20);
  const told = notices;
  await polls(20);
  expect(notices).toBe(told);
  await reading;
});
