/** Verification by the running daemon, on its schedule. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { CliProcess } from '../support/cli.ts';
import { httpOf, useDaemons } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { ask } from '../support/http.ts';
import { parseMetrics, seriesValue } from '../support/prometheus.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 60, connections: ['conn_a'] });
});
const daemons = useDaemons(() => ({
  ...quickSettings(database.url, simulator.url),
  HTTP_PORT: '0',
  REQUEST_RATE: '1000',
  VERIFY_RATE: '1000',
  VERIFY_CRON: '* * * * * *',
}));
afterAll(async () => {
  await daemons.stopAll();
  await simulator.close();
});

/** The lines of the log with this message. */
const told = ({ stderr }: CliProcess, message: string) =>
  stderr
    .split('\n')
    .filter((line) => line.includes(`"msg":"${message}"`))
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('planted drift is found at the next tick, and mended where that is asked for', async () => {
  const watching = daemons.start();
  await watching.logged('verified');
  expect(told(watching, 'verified')[0]).toMatchObject({ cause: 'schedule', drift: 0, mended: 0 });
  expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
  const newest = (offset: number) =>
    `message_id = (select message_id from whatsapp.messages order by sent_at desc nulls last offset ${offset} limit 1)`;
  await database.query(`
    with gone as (delete from whatsapp.conversations where conversation_id =
      (select min(conversation_id) from whatsapp.conversations)),
    lost as (delete from whatsapp.messages where ${newest(0)})
    update whatsapp.messages set body = 'forged' where ${newest(1)}`);
  const counts = { conversation: { missing: 1 }, message: { missing: 1, different: 1 } };
  // One that was under way may have found only a part of it; the next tick finds the whole.
  await waitFor(() => told(watching, 'verified: the replica differs').some(({ drift }) => drift === 3), {
    what: 'all of the drift to be told',
  });
  const all = told(watching, 'verified: the replica differs').find(({ drift }) => drift === 3);
  expect(all).toMatchObject({ cause: 'schedule', remaining: 3, mended: 0, counts });
  expect(watching.stderr).not.toContain('forged');
  const base = await httpOf(watching);
  const metrics = parseMetrics((await ask(`${base}/metrics`)).body);
  // The deleted rows are missed by two counters of the ledger, too.
  expect(seriesValue(metrics, 'wa_replica_verify_drift_records')).toBe(5);
  expect((await ask(base)).body).toContain(', 3 differ<');
  expect(await differencesFromTruth(database.db, simulator)).not.toEqual([]);
  expect(await watching.kill('SIGTERM')).toBe(0);

  const mending = daemons.start({ VERIFY_REPAIR: 'true' });
  await mending.logged('verified');
  const done = await waitFor(() => told(mending, 'verified')[0], { what: 'its line' });
  expect(done).toMatchObject({ cause: 'schedule', drift: 3, mended: 3 });
  expect(await differencesFromTruth(database.db, simulator)).toEqual([]);
  const url = await httpOf(mending);
  const { connections } = JSON.parse((await ask(`${url}/status`)).body);
  expect(connections).toMatchObject([
    { verification: { state: 'finished', remaining: '0', ledger_problems: 0 } },
  ]);

  // What no repair can set right.
  await database.query(`update whatsapp.sync_pages set cursor_to = cursor_to + 1
    where page_id = (select max(page_id) from whatsapp.sync_pages)`);
  await mending.logged('verified: the replica differs');
  expect(told(mending, 'verified: the replica differs')[0]).toMatchObject({
    remaining: 0,
    ledger: [{ code: 'cursor_behind_ledger' }],
  });
  expect((await ask(url)).body).toContain(', the ledger is not whole<');
  expect(await mending.kill('SIGTERM')).toBe(0);
});
