import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { type ErrorKind, ReplicaError } from '../../src/errors/errors.ts';
import { createMediaMetrics } from '../../src/ops/media-metrics.ts';
import type { MediaCounts } from '../../src/store/media-report.ts';
import { parseMetrics, seriesValue } from '../support/prometheus.ts';

test('what an attachment was lost for is an error; that there is none is not', async () => {
  const registry = new Registry();
  const { listen } = createMediaMetrics(registry);
  const gone = (state: 'failed' | 'unavailable', kind: ErrorKind) =>
    listen({ type: 'gone', connectionId: 'conn_a', state, error: new ReplicaError(kind, { where: 'here' }) });
  gone('failed', 'upstream');
  gone('unavailable', 'not_found');
  const text = await registry.metrics();
  expect(text).toContain('wa_replica_media_downloads_total{outcome="failed"} 1');
  expect(text).toContain('wa_replica_media_errors_total{kind="upstream"} 1');
  expect(text).not.toContain('kind="not_found"');
});

test('what is fetched is counted from 0 on, and its bytes', async () => {
  const registry = new Registry();
  const { listen } = createMediaMetrics(registry);
  const counted = async () => {
    const families = parseMetrics(await registry.metrics());
    const of = (name: string) => seriesValue(families, `wa_replica_media_${name}`);
    return [
      ...['stored', 'unavailable', 'failed', 'delayed'].map((one) => of(`downloads_total{outcome="${one}"}`)),
      of('downloaded_bytes_total'),
    ];
  };
  expect(await counted()).toEqual([0, 0, 0, 0, 0]);
  for (const bytes of [500, 7]) listen({ type: 'stored', connectionId: 'conn_a', bytes, took: 1 });
  listen({ type: 'again', connectionId: 'conn_a', error: new ReplicaError('upstream', { where: 'here' }) });
  expect(await counted()).toEqual([2, 0, 0, 1, 507]);
});

test('it is down from when the store or the database hinders all until it no longer does', async () => {
  const registry = new Registry();
  const { listen } = createMediaMetrics(registry);
  const up = async () => seriesValue(parseMetrics(await registry.metrics()), 'wa_replica_media_up');
  const error = new ReplicaError('media_store', { where: 'here' });
  expect(await up()).toBe(1);
  listen({ type: 'stopped', error, failures: 1, retryIn: 1 });
  listen({ type: 'held', connectionId: 'conn_a', error, failures: 1, retryIn: 1 });
  listen({ type: 'released', connectionId: 'conn_a', failures: 1 });
  expect(await up()).toBe(0);
  listen({ type: 'resumed', failures: 1 });
  expect(await up()).toBe(1);
});

test('what is stored and waited for is of all connections; unknown it is not there', async () => {
  const registry = new Registry();
  const metrics = createMediaMetrics(registry);
  const values = async () => {
    const families = parseMetrics(await registry.metrics());
    const of = (name: string) => seriesValue(families, `wa_replica_media${name}`);
    return [
      ...['pending', 'stored', 'unavailable', 'failed'].map((state) => of(`{state="${state}"}`)),
      ...[of('_bytes'), of('_oldest_pending_seconds')],
    ];
  };
  const one: MediaCounts = {
    ...{ connection_id: 'conn_a', pending: '1', stored: '2', unavailable: '3', failed: '4' },
    ...{ bytes: '500', oldest_pending_seconds: 60, errors: {} },
  };
  metrics.set([one, { ...one, connection_id: 'conn_b', pending: '0', oldest_pending_seconds: 0 }]);
  expect(await values()).toEqual([1, 4, 6, 8, 1_000, 60]);
  metrics.set([]);
  expect(await values()).toEqual(Array(6).fill(0));
  metrics.set(undefined);
  expect(await values()).toEqual(Array(6).fill(undefined));
});
