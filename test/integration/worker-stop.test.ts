import pg from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { useTestDatabase } from '../support/database.ts';
import { createReplica, quickSettings } from '../support/replica.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
});
afterAll(() => simulator.close());

/** Stops a worker that has claimed a lease, and has no loop for it yet.
 * @returns whether it ended in time. */
async function stopMeanwhile(shutdownTimeout: string): Promise<boolean> {
  const env = { ...quickSettings(database.url, simulator.url), SHUTDOWN_TIMEOUT: shutdownTimeout };
  const replica = await createReplica({ ...env, LEASE_TTL: '30s' });
  onTestFinished(() => replica.close());
  const { worker, workerOptions, control, directory } = replica;
  const claimed = Promise.withResolvers<void>();
  const stopping = Promise.withResolvers<void>();
  worker.start(async () => {
    const claimedAt = performance.now();
    const leases = await claimLeases(control, worker.id, directory.connections, workerOptions.leaseTtl, 1);
    claimed.resolve();
    await stopping.promise;
    for (const lease of leases) void worker.adopt(lease, claimedAt);
  });
  await claimed.promise;
  const stopped = worker.stop();
  stopping.resolve();
  return await stopped;
}

const owner = async () =>
  (await database.query<{ lease_owner: string | null }>('select lease_owner from whatsapp.sync_state'))[0];

test('a lease that was claimed while the worker stops is given back before it has stopped', async () => {
  expect(await stopMeanwhile('20s')).toBe(true);
  expect(await owner()).toEqual({ lease_owner: null });
});

test('a stop that cannot give such a lease back says so', async () => {
  // Whatever else the end consists of, it does not need this row.
  await database.query(`create function lease_wait() returns trigger language plpgsql as
    'begin if new.lease_owner is null then perform pg_advisory_xact_lock(7); end if; return new; end'`);
  await database.query(`create trigger wait before update on whatsapp.sync_state
    for each row execute function lease_wait()`);
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  await other.query('select pg_advisory_lock(7)');
  expect(await stopMeanwhile('1s')).toBe(false);
  await other.end();
});

test('a stop that cannot sign off says so, and has dropped nothing', async () => {
  await database.query(`create function refuse() returns trigger language plpgsql as
    'begin raise exception using errcode = ''57P01''; end'`);
  await database.query(`create trigger refuse before delete on whatsapp.workers
    for each statement execute function refuse()`);
  const replica = await createReplica(quickSettings(database.url, simulator.url));
  onTestFinished(() => replica.close());
  replica.worker.start();
  expect(await replica.worker.stop()).toBe(true);
  const failures = replica.events.filter(({ type }) => type === 'worker_failed');
  expect(failures).toMatchObject([{ error: { kind: 'database', message: 'signing off: 57P01' } }]);
});
