/** How a loop judges itself. */
import { expect, test } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { Journal } from '../../src/sync/journal.ts';
import { Standing } from '../../src/sync/standing.ts';

test('it is behind while a poll has told of more and none has failed since', () => {
  const journal = new Journal(() => {}, 'conn', 0);
  const standing = new Standing('conn', journal);
  expect([standing.isBehind, standing.health.polledAt]).toEqual([false, undefined]);
  standing.polled(0);
  expect(standing.isBehind).toBe(true);
  journal.failed(new ReplicaError('network', { where: 'somewhere' }), () => 1_000);
  expect(standing.isBehind).toBe(false);
  expect(standing.health.failure).toEqual({ kind: 'network', message: 'somewhere', parked: false });
  journal.recovered();
  expect([standing.isBehind, standing.health.failure]).toEqual([true, undefined]);
  standing.polled(15_000);
  expect([standing.isBehind, standing.health.interval]).toEqual([false, 15_000]);
  journal.failed(new ReplicaError('unauthorized', { where: 'somewhere' }), () => 1_000);
  expect(standing.health.failure).toMatchObject({ parked: true });
});
