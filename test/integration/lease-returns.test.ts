/** Leases that are given back: those of a worker of hundreds do not wait for each other. */
import { expect, test } from 'vitest';
import { ensureConnections } from '../../src/store/connections.ts';
import { poolUse } from '../../src/store/database.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { LeaseReturns } from '../../src/sync/lease-returns.ts';
import { useFreshDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';

const IDS = Array.from({ length: 300 }, (_, i) => `conn_${i}`);
const database = useFreshDatabase({ migrated: true });
const held = async () =>
  (await database.query('select connection_id from whatsapp.sync_state where lease_owner is not null')).map(
    (row) => row.connection_id,
  );

async function claimed() {
  await ensureConnections(database.db, IDS);
  const leases = await claimLeases(database.db, 'one', IDS, 3_600_000, IDS.length);
  return leases.map(({ connectionId, term }) => ({ connectionId, term, due: false }));
}

test('they go together, and one whose row is locked keeps no other waiting', async () => {
  const leases = await claimed();
  const returns = new LeaseReturns(database.db);
  let given: Promise<unknown> | undefined;
  await database.db.transaction().execute(async (trx) => {
    await trx
      .selectFrom('sync_state')
      .select('cursor')
      .where('connection_id', '=', 'conn_7')
      .forUpdate()
      .execute();
    given = Promise.all(leases.map((lease) => returns.give(lease)));
    // A statement each would wait for a connection of the pool.
    expect(poolUse(database.db).waiting).toBeLessThan(10);
    await waitFor(async () => (await held()).length === 1, { what: 'the others to be given back' });
    expect(await held()).toEqual(['conn_7']);
  });
  await given;
  expect(await held()).toEqual([]);
});

test('what fails is told to each of them, and the next are tried again', async () => {
  const leases = await claimed();
  const returns = new LeaseReturns(database.db);
  await database.query('alter table whatsapp.sync_state rename to elsewhere');
  const failed = await Promise.allSettled(leases.slice(0, 2).map((lease) => returns.give(lease)));
  expect(failed.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  await database.query('alter table whatsapp.elsewhere rename to sync_state');
  await Promise.all(leases.map((lease) => returns.give(lease)));
  expect(await held()).toEqual([]);
});
