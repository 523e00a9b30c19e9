/** Leases of connections (R15): one holder at a time, by the database's clock. */
import { beforeEach, expect, test } from 'vitest';
import { ensureConnections } from '../../src/store/connections.ts';
import { makeDueUnlessLocked } from '../../src/store/due.ts';
import { claimLeases, releaseLeases, renewLeases } from '../../src/store/leases.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query('truncate whatsapp.sync_state, whatsapp.connections');
  await ensureConnections(database.db, [CONNECTION]);
});

test('only one holder; a released or expired one is free', async () => {
  const [one] = await claimLeases(database.db, 'one', [CONNECTION], 60_000, 1);
  const { term } = one!;
  expect(await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1)).toEqual([]);
  expect(await renewLeases(database.db, 'one', 60_000)).toMatchObject([{ connectionId: CONNECTION, term }]);
  expect(await renewLeases(database.db, 'two', 60_000)).toEqual([]);
  const lease = { connectionId: CONNECTION, term, due: false };
  await releaseLeases(database.db, [{ ...lease, term: '7' }]);
  expect(await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1)).toEqual([]);
  await releaseLeases(database.db, [lease]);
  const [two] = await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1);
  expect(two).toMatchObject({ takenOver: false });
  expect(BigInt(two!.term)).toBeGreaterThan(BigInt(term));
});

test('of many that are given back, those of another term and those that are locked stay as they are', async () => {
  const ids = ['conn_due', 'conn_later', 'conn_locked', 'conn_over'];
  await ensureConnections(database.db, ids);
  const leases = await claimLeases(database.db, 'one', ids, 60_000, 9);
  const given = leases.map(({ connectionId, term }) => ({
    connectionId,
    term: connectionId === 'conn_over' ? '7' : term,
    due: connectionId === 'conn_due',
  }));
  await database.query(`update whatsapp.sync_state set next_poll_at = now() + interval '1 hour'`);
  await database.db.transaction().execute(async (trx) => {
    await trx
      .selectFrom('sync_state')
      .select('cursor')
      .where('connection_id', '=', 'conn_locked')
      .forUpdate()
      .execute();
    expect([...(await releaseLeases(database.db, given))].sort()).toEqual(['conn_due', 'conn_later']);
  });
  const free = 'select connection_id from whatsapp.sync_state where lease_owner is null order by 1';
  const due = 'select connection_id from whatsapp.sync_state where next_poll_at <= clock_timestamp()';
  expect((await database.query(free)).map((row) => row.connection_id)).toEqual([
    'conn_due',
    'conn_later',
    CONNECTION,
  ]);
  expect(await database.query(due)).toEqual([{ connection_id: 'conn_due' }]);
});

test('a term never comes again, though the database forgets a taking', async () => {
  // A standby that has not heard of it is promoted, or a backup restored.
  const [state] = await database.query('select lease_term as term from whatsapp.sync_state');
  const forget = `update whatsapp.sync_state set lease_owner = null, lease_expires_at = null, lease_term = $1`;
  const [one] = await claimLeases(database.db, 'one', [CONNECTION], 60_000, 1);
  await database.query(forget, [state!.term]);
  const [two] = await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1);
  expect(BigInt(two!.term)).toBeGreaterThan(BigInt(one!.term));
  // The clock goes back.
  const later = BigInt(two!.term) + 3_600_000_000n;
  await database.query(forget, [later]);
  expect(await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1)).toMatchObject([
    { term: `${later + 1n}` },
  ]);
});

test('a row that is locked is skipped, by claim and renewal', async () => {
  await claimLeases(database.db, 'one', [CONNECTION], 1, 1);
  await database.db.transaction().execute(async (trx) => {
    await trx.selectFrom('sync_state').selectAll().forUpdate().execute();
    expect(await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1)).toEqual([]);
    expect(await renewLeases(database.db, 'one', 60_000)).toEqual([]);
  });
});

test('what is due first is had first, and whether from a dead worker is told', async () => {
  await ensureConnections(database.db, ['conn_later', 'conn_sooner']);
  await database.query(`update whatsapp.sync_state set next_poll_at = now() + case connection_id
    when 'conn_sooner' then interval '1 second' else interval '1 minute' end`);
  const ids = [CONNECTION, 'conn_later', 'conn_sooner'];
  expect(await claimLeases(database.db, 'one', ids, 1, 1)).toMatchObject([
    { connectionId: 'conn_sooner', takenOver: false },
  ]);
  await expect
    .poll(() => claimLeases(database.db, 'two', ['conn_sooner'], 60_000, 1))
    .toMatchObject([{ connectionId: 'conn_sooner', takenOver: true }]);
});

test('being made due is seen at the renewal', async () => {
  await claimLeases(database.db, 'one', [CONNECTION], 60_000, 1);
  await database.query(`update whatsapp.sync_state set next_poll_at = now() + interval '1 hour'`);
  expect((await renewLeases(database.db, 'one', 60_000))[0]!.dueIn).toBeGreaterThan(3_000_000);
  await makeDueUnlessLocked(database.db, [CONNECTION]);
  expect((await renewLeases(database.db, 'one', 60_000))[0]!.dueIn).toBeLessThanOrEqual(0);
});
