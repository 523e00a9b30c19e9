import { describe, expect, test } from 'vitest';
import { createMetrics, type Sample } from '../../src/ops/metrics.ts';
import type { ConnectionStatus } from '../../src/store/status.ts';
import { parseMetrics, seriesValue } from '../support/prometheus.ts';
import { EVENTS, REPORT } from './every-event.ts';

const HOUR = 3_600_000;
const DAYS = 86_400;
const NOTHING: Sample = { report: undefined, leases: 0, keysFailing: 0, pools: {} };

const metrics = createMetrics({ perConnection: true, retention: 30 * DAYS * 1000 });

/** What a scrape gives, by series. */
async function scrape(sample: Partial<Sample>, { render } = metrics) {
  const families = parseMetrics(await render({ ...NOTHING, ...sample }));
  return (series: string) => seriesValue(families, `wa_replica_${series}`);
}

const [CALM] = REPORT.connections as [ConnectionStatus];
const verified = (hoursAgo: number, remaining = '0', ledger_problems = 0) => ({
  ...CALM.verification!,
  ...{ finished_at: new Date(Date.now() - hoursAgo * HOUR).toISOString(), remaining, ledger_problems },
});
const reportOf = (...connections: Partial<ConnectionStatus>[]) => ({
  ...REPORT,
  connections: connections.map((one) => ({ ...CALM, ...one })),
});

describe('what alerts look at', () => {
  const two = reportOf(
    {
      ...{ connection_id: 'conn_a', lag_seconds: 5, window_left_seconds: 95, quarantined: '2', gaps: '1' },
      verification: verified(3, '4', 1),
    },
    {
      ...{ connection_id: 'conn_b', lag_seconds: 80, window_left_seconds: 20, quarantined: '1' },
      ...{ window_alarm: 'error' as const, state: 'parked' as const, verification: verified(30) },
    },
    {
      connection_id: 'conn_c',
      lag_seconds: 55,
      window_left_seconds: 45,
      window_alarm: 'warn',
      verification: null,
    },
  );

  test('is the worst and the sum of the connections', async () => {
    const value = await scrape({ report: two });
    expect(value('max_lag_seconds')).toBe(80);
    expect(value('min_window_left_seconds')).toBe(20);
    expect(value('quarantine_records')).toBe(3);
    expect(value('open_gaps')).toBe(1);
    expect(value('verify_drift_records')).toBe(5);
    expect(value('verify_max_age_seconds')).toBeCloseTo(30 * 3600, -2);
    expect([value('window_alarms{step="warn"}'), value('window_alarms{step="error"}')]).toEqual([1, 1]);
    expect([value('connections{state="live"}'), value('connections{state="parked"}')]).toEqual([2, 1]);
    expect(value('database_up')).toBe(1);
  });

  test('is what the keys are good for', async () => {
    expect((await scrape({ keysFailing: 2 }))('keys_failing')).toBe(2);
  });

  test('is each connection’s own, too, where that is wanted', async () => {
    const value = await scrape({ report: two });
    const of = (id: string) =>
      ['lag_seconds', 'window_left_seconds', 'quarantined', 'gaps', 'verify_drift'].map((name) =>
        value(`${name}{connection_id="${id}"}`),
      );
    expect(of('conn_a')).toEqual([5, 95, 2, 1, 5]);
    expect(of('conn_b')).toEqual([80, 20, 1, 0, 0]);
    // One that was never verified is no connection without drift.
    expect(of('conn_c')).toEqual([55, 45, 0, 0, undefined]);
    expect(value('verify_age_seconds{connection_id="conn_a"}')).toBeCloseTo(3 * 3600, -2);
    const summed = await scrape({ report: two }, createMetrics({ perConnection: false, retention: 1 }));
    expect(summed('lag_seconds{connection_id="conn_a"}')).toBeUndefined();
    expect(summed('verify_drift_records')).toBe(5);
  });

  test('is nothing of a connection that is removed, which nobody can mend', async () => {
    const gone = { state: 'removed' as const, window_alarm: null, connection_id: 'conn_gone' };
    const value = await scrape({
      report: reportOf(
        { verification: null },
        {
          ...{ ...gone, lag_seconds: 1e6, window_left_seconds: -1e6, quarantined: '3', gaps: '2' },
          verification: verified(1_000, '7', 1),
        },
      ),
    });
    expect(value('max_lag_seconds')).toBe(1);
    expect(value('min_window_left_seconds')).toBe(2);
    for (const sum of ['quarantine_records', 'open_gaps', 'verify_drift_records'])
      expect([sum, value(sum)]).toEqual([sum, 0]);
    expect(value('verify_max_age_seconds')).toBeUndefined();
    expect(value('lag_seconds{connection_id="conn_gone"}')).toBeUndefined();
    expect(value('connections{state="removed"}')).toBe(1);
  });

  test('is not there during an outage, where 0 would say that all is well', async () => {
    await scrape({
      report: two,
      feed: { kept: 9, consumers: [{ consumer: 'crm', pending: 1, lag: 1, late: 1 }] },
    });
    const value = await scrape({});
    expect(value('database_up')).toBe(0);
    for (const name of [
      ...[
        'max_lag_seconds',
        'min_window_left_seconds',
        'quarantine_records',
        'open_gaps',
        'verify_drift_records',
      ],
      ...['verify_max_age_seconds', 'window_alarms{step="error"}', 'connections{state="live"}', 'changes'],
      'changes_late_connections{consumer="crm"}',
      ...[
        'lag_seconds',
        'window_left_seconds',
        'quarantined',
        'gaps',
        'verify_drift',
        'verify_age_seconds',
      ].map((name) => `${name}{connection_id="conn_a"}`),
    ])
      expect([name, value(name)]).toEqual([name, undefined]);
    // And 0 from the first look at a database in which nothing is amiss.
    const calm = await scrape({ report: reportOf() });
    for (const name of [
      'quarantine_records',
      'open_gaps',
      'verify_drift_records',
      'window_alarms{step="warn"}',
    ])
      expect([name, calm(name)]).toEqual([name, 0]);
    expect(calm('max_lag_seconds')).toBeUndefined();
  });

  test('is how long a consumer has, which is never less than none; one that is dropped is gone', async () => {
    const consumer = (name: string, days: number) => ({
      consumer: name,
      pending: 3,
      lag: days * DAYS,
      late: 2,
    });
    const value = await scrape({ feed: { kept: 9, consumers: [consumer('crm', 10), consumer('desk', 40)] } });
    expect(value('changes')).toBe(9);
    expect(value('changes_left_seconds{consumer="crm"}')).toBe(20 * DAYS);
    expect(value('changes_left_seconds{consumer="desk"}')).toBe(0);
    expect(value('changes_lag_seconds{consumer="crm"}')).toBe(10 * DAYS);
    expect(value('changes_late_connections{consumer="crm"}')).toBe(2);
    const later = await scrape({ feed: { kept: 9, consumers: [consumer('crm', 0)] } });
    for (const name of ['pending', 'lag_seconds', 'left_seconds', 'late_connections'])
      expect(later(`changes_${name}{consumer="desk"}`)).toBeUndefined();
  });
});

test('durations are in seconds, and what is suppressed is counted from 0 on', async () => {
  const fresh = createMetrics({ perConnection: true, retention: 1 });
  const before = await scrape({}, fresh);
  for (const reason of ['erased', 'expired']) expect(before(`suppressed_total{reason="${reason}"}`)).toBe(0);
  fresh.listen({
    ...EVENTS.page[0]!,
    requestTook: 1_500,
    applyTook: 250,
    suppressed: { erased: 2, expired: 1 },
  });
  const after = await scrape({}, fresh);
  expect(after('request_duration_seconds_sum')).toBe(1.5);
  expect(after('apply_duration_seconds_sum')).toBe(0.25);
  expect(after('suppressed_total{reason="erased"}')).toBe(2);
  expect(after('suppressed_total{reason="expired"}')).toBe(1);
});
