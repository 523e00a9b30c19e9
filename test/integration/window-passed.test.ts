/** The window (R17) once it has passed: the gap, and everywhere that it is told. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { httpOf, useDaemons } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { ask } from '../support/http.ts';
import { parseMetrics, seriesValue } from '../support/prometheus.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { AlertReceiver } from './alert-receiver.ts';

const DAY = 86_400_000;
const SECRET = 'whsec_test';
const ID = 'conn_a';
const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
const alerts = new AlertReceiver();

beforeAll(async () => {
  simulator = await startSimulator({ messages: 60, connections: [ID] });
});
const daemons = useDaemons(() => ({
  ...quickSettings(database.url, simulator.url),
  HTTP_PORT: '0',
  VERIFY_RATE: '1000',
  // After a gap only: once a day is not within a test.
  VERIFY_CRON: '0 0 29 2 *',
}));
afterAll(async () => {
  await daemons.stopAll();
  await simulator.close();
});

test('a catch-up after the window records the gap once, is verified, and shown until it is acknowledged', async () => {
  await database.query(`insert into whatsapp.connections values ('${ID}')`);
  await database.query(`insert into whatsapp.sync_state (connection_id, caught_up_at, window_alert)
    values ('${ID}', now() - interval '40 days', 'error')`);
  const daemon = daemons.start({ ALERT_WEBHOOK_URL: alerts.url.href, ALERT_WEBHOOK_SECRET: SECRET });
  const base = await httpOf(daemon);
  await daemon.logged('gap recorded');
  const [gap, ...others] = await database.query('select * from whatsapp.gaps');
  expect(others).toEqual([]);
  expect(gap).toMatchObject({
    connection_id: ID,
    reason: 'window_passed',
    found_by: 'catch_up',
    acknowledged_at: null,
  });
  const length = gap!.gap_to.getTime() - gap!.gap_from.getTime();
  expect(Math.round(length / DAY)).toBe(10);
  const verified = () =>
    database.query(`select * from whatsapp.verifications where cause = 'gap' and state = 'finished'`);
  await waitFor(async () => (await verified()).length === 1, {
    what: 'its verification',
    deadlineMs: 60_000,
  });
  await waitFor(() => alerts.received.some(({ event }) => event.type === 'wa_replica.gap.recorded'), {
    what: 'word of it',
    deadlineMs: 60_000,
  });
  const shown = async () => ({
    ready: JSON.parse((await ask(`${base}/readyz`)).body) as object,
    status: (JSON.parse((await ask(`${base}/status`)).body) as { connections: object[] }).connections[0]!,
    page: (await ask(base)).body,
    metric: seriesValue(parseMetrics((await ask(`${base}/metrics`)).body), 'wa_replica_open_gaps'),
  });
  const before = await waitFor(
    async () => {
      const all = await shown();
      return 'gaps' in all.ready && all.ready.gaps === 1 ? all : undefined;
    },
    { what: '/readyz to tell it', deadlineMs: 60_000 },
  );
  expect(before.ready).toMatchObject({ status: 'degraded' });
  expect(before.status).toMatchObject({ gaps: '1', verification: { state: 'finished', remaining: '0' } });
  expect(before.page).toContain('1 gap:');
  expect(before.metric).toBe(1);
  const env = { DATABASE_URL: database.url };
  const list = await runCommand(['gaps', 'list'], env);
  expect(list.stdout).toContain(`${gap!.gap_id}   ${ID}`);
  expect(await runCommand(['gaps', 'ack', gap!.gap_id, '--note', 'asked around'], env)).toMatchObject({
    status: 0,
  });
  expect(await runCommand(['gaps', 'ack', gap!.gap_id], env)).toMatchObject({ status: 1 });
  expect(await shown()).toMatchObject({ status: { gaps: '0' }, metric: 0 });
  expect(await database.query('select note from whatsapp.gaps')).toEqual([{ note: 'asked around' }]);
  expect(await daemon.kill('SIGTERM')).toBe(0);
});
