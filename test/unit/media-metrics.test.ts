import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { type ErrorKind, ReplicaError } from '../../src/errors.ts';
import { createMediaMetrics } from '../../src/ops/media-metrics.ts';

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
