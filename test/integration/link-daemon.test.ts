import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useDaemons } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

/* The daemon links on its schedule, and goes on replicating when the CRM fails. */

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 50 });
  await database.query('create table contacts (id integer, phone text)');
});
afterAll(() => simulator.close());
const daemons = useDaemons(() => ({
  ...quickSettings(database.url, simulator.url),
  CRM_CONTACTS_QUERY: 'select id, phone from contacts',
  CRM_DEFAULT_COUNTRY: 'DE',
  // node-cron's form with seconds.
  CRM_LINK_CRON: '* * * * * *',
}));

test('contacts are linked on the schedule; a query that fails is told of, and the next time tries again', async () => {
  const links = () => database.query('select crm_id, phone_e164 from whatsapp.crm_links order by 1');
  await database.query(`insert into contacts values (1, '0151 12345678')`);
  const daemon = daemons.start();
  await waitFor(async () => (await links()).length === 1, { what: 'the first link' });
  await daemon.logged('contacts linked');
  await daemon.logged('indexes built');
  await database.query('alter table contacts rename to elsewhere');
  await daemon.logged('upkeep failed');
  expect(daemon.stderr).toContain('running CRM_CONTACTS_QUERY: 42P01');
  expect(await links()).toHaveLength(1);
  await database.query(`insert into elsewhere values (2, '0151 87654321')`);
  await database.query('alter table elsewhere rename to contacts');
  await waitFor(async () => (await links()).length === 2, { what: 'the second link' });
  expect(daemon.stderr).not.toMatch(/15112345678|0151/);
  expect(await daemon.kill('SIGTERM')).toBe(0);
});
