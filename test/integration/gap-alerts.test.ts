/** Gaps (R17), as the watch of the window alerts of them. */
import { setImmediate } from 'node:timers/promises';
import { beforeEach, expect, test } from 'vitest';
import { createLogger } from '../../src/ops/logger.ts';
import { WindowWatch, type WindowWatchOptions } from '../../src/ops/window-watch.ts';
import { readWindow } from '../../src/store/window.ts';
import { useTestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';

const ID = 'conn_a';
const database = useTestDatabase({ migrated: true });
const { signal } = new AbortController();
const log = createLogger({ level: 'silent', format: 'json', stream: process.stderr });

/** One connection that is caught up. */
beforeEach(async () => {
  await database.query('truncate whatsapp.gaps, whatsapp.connections, whatsapp.sync_state');
  await database.query(`insert into whatsapp.connections values ('${ID}')`);
  await database.query(
    `insert into whatsapp.sync_state (connection_id, caught_up_at) values ('${ID}', now())`,
  );
});

function watch(send: WindowWatchOptions['send']): WindowWatch {
  const { db } = database;
  return new WindowWatch({ looks: db, control: db, workerId: 'me', window: 30 * 86_400_000, send, log });
}

test('a gap is told of by whoever holds its connection, and by anybody where nobody does', async () => {
  const lease = (owner: string, ends: string) =>
    database.query(
      `update whatsapp.sync_state set window_alert = null, lease_owner = $1, lease_expires_at = now() + $2::interval`,
      [owner, ends],
    );
  const sent: string[] = [];
  const mine = watch(async ({ type }) => void sent.push(type));
  const look = async () => {
    await mine.look(signal);
    // What it sends begins a little later.
    await setImmediate();
    return sent.length;
  };
  for (const [owner, ends] of [
    ['me', '1 hour'],
    ['you', '-1 second'],
  ] as const) {
    sent.length = 0;
    await database.query(
      `insert into whatsapp.gaps (connection_id, gap_from, gap_to, reason, found_by)
        values ($1, now() - interval '2 days', now(), 'window_passed', 'catch_up')`,
      [ID],
    );
    await lease('you', '1 hour');
    expect(await look()).toBe(0);
    await lease(owner, ends);
    expect(await look()).toBe(1);
    const untold = 'select from whatsapp.gaps where alerted_at is null';
    await waitFor(async () => (await database.query(untold)).length === 0, { what: 'it to be noted' });
  }
});

test('a gap of a connection that is removed is no alarm, until it is listed again', async () => {
  const alerts: (string | undefined)[] = [];
  const watcher = watch(async ({ connectionId }) => void alerts.push(connectionId));
  const openGaps = async () => {
    await watcher.look(signal);
    return watcher.alarms.gaps;
  };
  const others = await openGaps();
  await database.query(
    `insert into whatsapp.connections (connection_id, removed_at) values ('conn_gone', now())`,
  );
  await database.query(`insert into whatsapp.gaps (connection_id, gap_from, gap_to, found_by)
    values ('conn_gone', now() - interval '2 days', now() - interval '1 day', 'catch_up')`);
  expect(await openGaps()).toBe(others);
  await database.query(`update whatsapp.connections set removed_at = null where connection_id = 'conn_gone'`);
  expect(await openGaps()).toBe(others + 1);
  await waitFor(() => alerts.filter((id) => id === 'conn_gone').length === 1, { what: 'the alert' });
});

test('nor is its window, which closes while nobody polls it', async () => {
  await database.query(`update whatsapp.sync_state set caught_up_at = now() - interval '20 days'`);
  const alarms = async () =>
    (await readWindow(database.db, 30 * 86_400_000)).map(({ connectionId }) => connectionId);
  expect(await alarms()).toEqual([ID]);
  await database.query('update whatsapp.connections set removed_at = now()');
  expect(await alarms()).toEqual([]);
});
