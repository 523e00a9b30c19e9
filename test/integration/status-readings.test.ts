/** What `status` reads of the tables: which of a connection's rows count, and of when. */
import { expect, test } from 'vitest';
import { readConnections, readWorkers } from '../../src/store/status.ts';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });

const DAY = 86_400_000;

test('what is over counts no more: entries that are resolved, gaps that were acknowledged, leases that ran out', async () => {
  const polled = `insert into whatsapp.sync_state
    (connection_id, last_polled_at, caught_up_at, lease_owner, lease_expires_at)
    select c, now(), now() + age, 'w', now() + lease from (values`;
  await database.query(`
    insert into whatsapp.connections (connection_id, removed_at) values ('ahead', null), ('late', null), ('gone', now());
    ${polled} ('ahead', interval '1 hour', interval '1 hour'), ('late', '-29 days', '-1 hour'), ('gone', '-29 days', null)
      ) t (c, age, lease);
    insert into whatsapp.workers (worker_id) values ('w');
    insert into whatsapp.quarantine (connection_id, kind, record_sha256, resolved_at)
      values ('ahead', 'message', '1', null), ('ahead', 'message', '2', now());
    insert into whatsapp.gaps (connection_id, acknowledged_at) values ('ahead', null), ('ahead', now())`);
  const found = await readConnections(database.db, 30 * DAY);
  const shown = found.map(({ connection_id, worker, quarantined, gaps, window_alarm, lag_seconds }) => {
    return { connection_id, worker, quarantined, gaps, window_alarm, late: lag_seconds > 0 };
  });
  expect(shown).toEqual([
    // caught up later than now: the clock was put back
    { connection_id: 'ahead', worker: 'w', quarantined: '1', gaps: '1', window_alarm: null, late: false },
    { connection_id: 'gone', worker: null, quarantined: '0', gaps: '0', window_alarm: null, late: true },
    { connection_id: 'late', worker: null, quarantined: '0', gaps: '0', window_alarm: 'error', late: true },
  ]);
  expect(found[0]).toMatchObject({ lag_seconds: 0, window_left_seconds: (30 * DAY) / 1000 });
  expect(await readWorkers(database.db, DAY)).toMatchObject([{ worker_id: 'w', connections: 1 }]);
});

test('of the verifications the last of everything that came to its end is shown', async () => {
  await database.query(`
    insert into whatsapp.connections (connection_id) values ('v');
    insert into whatsapp.sync_state (connection_id, last_polled_at) values ('v', now());
    insert into whatsapp.verifications (connection_id, state, since, drift, finished_at) values
      ('v', 'finished', null, 1, now()), ('v', 'failed', null, 2, now()), ('v', 'finished', now(), 3, now()),
      ('v', 'running', null, 4, null), ('v', 'interrupted', null, 5, null)`);
  const [v] = (await readConnections(database.db, DAY)).filter((one) => one.connection_id === 'v');
  // Polled, and not caught up yet.
  expect(v).toMatchObject({ state: 'catching_up', verification: { state: 'failed', drift: '2' } });
});
