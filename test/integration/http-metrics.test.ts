import { afterEach, beforeEach, expect, test } from 'vitest';
import { KINDS, OUTCOMES } from '../../src/model.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { signature } from '../../src/simulator/webhooks.ts';
import { runCommand } from '../support/command.ts';
import { httpOf, useDaemons } from '../support/daemons.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ask, readiness } from '../support/http.ts';
import { parseMetrics, seriesValue } from '../support/prometheus.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

/** An id that would break out of a label. */
const ODD = 'conn "b"\\\n{}';
const ODD_LABEL = '{connection_id="conn \\"b\\"\\\\\\n{}"}';

let simulator: Simulator;
let database: TestDatabase;
beforeEach(async () => {
  simulator = await startSimulator({ messages: 300, connections: ['conn_a', 'conn_b'] });
  database = await createTestDatabase();
});
const daemons = useDaemons(() => ({ ...quickSettings(database.url, simulator.url), HTTP_PORT: '0' }));
afterEach(async () => {
  await daemons.stopAll();
  await simulator.close();
  await database.drop();
});

async function start(more: Record<string, string> = {}): Promise<string> {
  const base = await httpOf(daemons.start(more));
  await readiness(base, { status: 200, says: '"current":2' });
  return base;
}

const scrape = async (base: string) => parseMetrics((await ask(`${base}/metrics`)).body);

/** Scrapes until a series has at least this value. */
async function reaches(base: string, series: string, least = 1): Promise<void> {
  let last: number | undefined;
  const there = async () => {
    last = seriesValue(await scrape(base), series);
    return last !== undefined && last >= least;
  };
  await waitFor(there, { what: `${series} to reach ${least}` }).catch((error: unknown) => {
    throw new Error(`${series} is ${last}`, { cause: error });
  });
}

test('every name of the contract is there, in the form that Prometheus wants', async () => {
  const base = await start();
  const answer = await ask(`${base}/metrics`);
  expect(answer.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
  const families = parseMetrics(answer.body);
  const types = Object.fromEntries([...families].map(([name, { type }]) => [name, type]));
  expect(types).toMatchObject({
    wa_replica_pages_total: 'counter',
    wa_replica_rows_total: 'counter',
    wa_replica_errors_total: 'counter',
    wa_replica_request_duration_seconds: 'histogram',
    wa_replica_apply_duration_seconds: 'histogram',
    wa_replica_lag_seconds: 'gauge',
    wa_replica_window_left_seconds: 'gauge',
    wa_replica_quarantined: 'gauge',
    wa_replica_leases: 'gauge',
    wa_replica_db_connections: 'gauge',
    // The process's own.
    process_resident_memory_bytes: 'gauge',
    process_cpu_seconds_total: 'counter',
    nodejs_eventloop_lag_p99_seconds: 'gauge',
  });
  const ours = [...families].filter(([name]) => name.startsWith('wa_replica_'));
  for (const [name, { help, type }] of ours) {
    expect([name, /^[a-z][a-z0-9_]*$/.test(name)]).toEqual([name, true]);
    expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter']);
    // Its unit, in its name and in its help alike.
    expect([name, /\bin seconds\b/.test(help)]).toEqual([name, name.endsWith('_seconds')]);
    expect([name, help.endsWith('.')]).toEqual([name, true]);
  }
});

test('counts pages, rows by kind and outcome, failures by kind, and requests to the webhook', async () => {
  const base = await start({ WEBHOOK_SECRET: 'whsec_test' });
  const hook = `${base}/webhooks/whatsapp-use`;
  const body = '{"connection_id":"conn_a"}';
  expect((await ask(hook, { method: 'POST', body })).status).toBe(401);
  const signed = signature('whsec_test', Math.floor(Date.now() / 1000), body);
  const headers = { 'x-whatsapp-use-signature': signed };
  expect((await ask(hook, { method: 'POST', body, headers })).status).toBe(200);
  const counted = await scrape(base);
  for (const [outcome, count] of Object.entries({ accepted: 1, refused: 1, too_large: 0, failed: 0 }))
    expect([outcome, seriesValue(counted, `wa_replica_webhooks_total{outcome="${outcome}"}`)]).toEqual([
      outcome,
      count,
    ]);
  const connection = simulator.world.connection('conn_a');
  const stored = await database.query<{ n: number }>('select count(*)::integer as n from whatsapp.messages');
  const inserted = 'wa_replica_rows_total{kind="message",outcome="inserted"}';
  await reaches(base, inserted, 300);
  expect(seriesValue(await scrape(base), inserted)).toBe(stored[0]?.n);
  simulator.world.applyChanges(200);
  await reaches(base, 'wa_replica_rows_total{kind="message",outcome="updated"}');
  connection.injectRaw('message', '{"message_id":""}');
  connection.injectRaw('contact', '{"person_id":7}');
  const badMember = '{"conversation_id":"c","participants":[{"participant_jid":5}],"seq":{{seq}}}';
  connection.injectRaw('conversation', (seq) => badMember.replace('{{seq}}', String(seq)));
  for (const kind of ['message', 'contact', 'participant']) {
    await reaches(base, `wa_replica_rows_total{kind="${kind}",outcome="quarantined"}`);
  }
  await reaches(base, 'wa_replica_quarantined{connection_id="conn_a"}', 3);
  await reaches(base, 'wa_replica_quarantine_records', 3);
  const env = { ...quickSettings(database.url, simulator.url) };
  expect(await runCommand(['resync', '--connection', 'conn_b', '--yes'], env)).toMatchObject({ status: 0 });
  await reaches(base, 'wa_replica_rows_total{kind="message",outcome="unchanged"}', 100);
  simulator.faults.script({ kind: 'bad_gateway' }, 1, { route: 'sync' });
  simulator.faults.script({ kind: 'html' }, 1, { route: 'sync' });
  await reaches(base, 'wa_replica_errors_total{kind="not_ready"}');
  await reaches(base, 'wa_replica_errors_total{kind="protocol"}');
  const families = await scrape(base);
  const [pages = 0, requests = 0, applies = 0] = [
    'wa_replica_pages_total',
    'wa_replica_request_duration_seconds_count',
    'wa_replica_apply_duration_seconds_count',
  ].map((series) => seriesValue(families, series));
  expect(pages).toBeGreaterThan(3);
  expect([requests, applies]).toEqual([pages, pages]);
  // Labels come from small sets.
  for (const series of families.get('wa_replica_rows_total')?.values.keys() ?? []) {
    const [, kind = '', outcome = ''] = /\{kind="(\w+)",outcome="(\w+)"\}$/.exec(series) ?? [];
    expect([...KINDS, 'participant']).toContain(kind);
    expect([...OUTCOMES, 'quarantined']).toContain(outcome);
  }
});

test('gauges tell of now: leases, pools, states, lag and window', async () => {
  const base = await start({ RETENTION_WINDOW: '1h', DB_POOL_SIZE: '3' });
  const families = await scrape(base);
  expect(seriesValue(families, 'wa_replica_leases')).toBe(2);
  expect(seriesValue(families, 'wa_replica_database_up')).toBe(1);
  expect(seriesValue(families, 'wa_replica_build_info{version="0.1.0"}')).toBe(1);
  expect(seriesValue(families, 'wa_replica_connections{state="live"}')).toBe(2);
  const lags = [...(families.get('wa_replica_lag_seconds')?.values ?? [])];
  expect(lags.map(([series]) => series)).toEqual([
    'wa_replica_lag_seconds{connection_id="conn_a"}',
    'wa_replica_lag_seconds{connection_id="conn_b"}',
  ]);
  expect(seriesValue(families, 'wa_replica_max_lag_seconds')).toBe(Math.max(...lags.map(([, lag]) => lag)));
  for (const [series, lag] of lags) {
    const left = seriesValue(families, series.replace('lag', 'window_left')) ?? 0;
    expect(left + lag).toBeGreaterThan(3_599);
    expect(left + lag).toBeLessThan(3_601);
  }
  const pool = (name: string) =>
    ['busy', 'idle'].map(
      (state) => seriesValue(families, `wa_replica_db_connections{pool="${name}",state="${state}"}`) ?? 0,
    );
  for (const [name, most] of [
    ['pages', 3],
    ['leases', 2],
    ['looks', 2],
  ] as const) {
    const open = pool(name).reduce((a, b) => a + b, 0);
    expect([name, open >= 1 && open <= most]).toEqual([name, true]);
  }
  simulator.faults.script({ kind: 'answer', status: 402 }, 10_000, { route: 'sync', connection: 'conn_b' });
  await reaches(base, 'wa_replica_connections{state="parked"}');
  // Nothing of the state before is left.
  expect(seriesValue(await scrape(base), 'wa_replica_connections{state="live"}')).toBe(1);
  await database.query(`update whatsapp.connections set removed_at = now() where connection_id = 'conn_b'`);
  await reaches(base, 'wa_replica_connections{state="removed"}');
  const after = await scrape(base);
  expect(seriesValue(after, 'wa_replica_lag_seconds{connection_id="conn_b"}')).toBeUndefined();
  expect(seriesValue(after, 'wa_replica_connections{state="parked"}')).toBeUndefined();
});

test('series per connection can be switched off; what alerts need stays', async () => {
  const base = await start({ METRICS_PER_CONNECTION: 'off' });
  const { body } = await ask(`${base}/metrics`);
  expect(body).not.toContain('conn_a');
  expect(body).not.toContain('connection_id');
  const families = parseMetrics(body);
  expect(seriesValue(families, 'wa_replica_max_lag_seconds')).toBeGreaterThanOrEqual(0);
  expect(seriesValue(families, 'wa_replica_min_window_left_seconds')).toBeGreaterThan(0);
  expect(seriesValue(families, 'wa_replica_quarantine_records')).toBe(0);
  expect(seriesValue(families, 'wa_replica_connections{state="live"}')).toBe(2);
});

test('a consumer of the change feed: how far behind, how long before it loses changes, and that it has', async () => {
  const base = await start({ CHANGES_RETENTION: '30d' });
  const of = async (metric: string) =>
    seriesValue(await scrape(base), `wa_replica_changes_${metric}{consumer="crm"}`);
  expect(await of('lag_seconds')).toBeUndefined();
  await database.query(`select whatsapp.register_consumer('crm')`);
  expect(await of('pending')).toBeGreaterThan(300);
  expect(await of('late_connections')).toBe(0);
  await database.query(
    `update whatsapp.changes set at = at - interval '20 days' where connection_id = 'conn_b'`,
  );
  const days = 86_400;
  expect(await of('lag_seconds')).toBeGreaterThan(20 * days);
  expect(await of('left_seconds')).toBeGreaterThan(10 * days - 60);
  expect(await of('left_seconds')).toBeLessThanOrEqual(10 * days);
  await database.query(`delete from whatsapp.changes where connection_id = 'conn_b' and change_no < 3`);
  expect(await of('late_connections')).toBe(1);
  await database.query(`select whatsapp.restart_consumer('crm')`);
  expect([await of('pending'), await of('lag_seconds'), await of('late_connections')]).toEqual([0, 0, 0]);
});

test('an odd id is a label like any other', async () => {
  const base = await start();
  await database.query(`insert into whatsapp.connections (connection_id) values ($1)`, [ODD]);
  await database.query(`insert into whatsapp.sync_state (connection_id) values ($1)`, [ODD]);
  const families = await scrape(base);
  expect(seriesValue(families, `wa_replica_lag_seconds${ODD_LABEL}`)).toBeGreaterThanOrEqual(0);
});
