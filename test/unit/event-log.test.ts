import { afterEach, describe, expect, test } from 'vitest';
import { type ErrorKind, ReplicaError } from '../../src/errors/errors.ts';
import { eventLog, troubleLog } from '../../src/ops/event-log.ts';
import { mediaLog } from '../../src/ops/media-log.ts';
import { logLines } from '../support/log-lines.ts';
import { EVENTS } from './every-event.ts';

/* How often and how loudly what goes on failing is told: once would be forgotten, always would drown everything else. */

const { log, lines, empty } = logLines();
afterEach(empty);

const error = (kind: ErrorKind) => new ReplicaError(kind, { where: 'here', code: 'X' });
const counts = () => lines.map(({ failures }) => failures);
const from1to = (most: number) => Array.from({ length: most }, (_, i) => i + 1);

describe('a connection that fails', () => {
  const start = () => {
    const listen = eventLog(log);
    return {
      listen,
      fail: (failures: number, kind: ErrorKind = 'network', connectionId = 'conn_a', retryIn = 5_000) =>
        listen({ type: 'failed', connectionId, error: error(kind), failures, retryIn }),
      recover: (connectionId: string) => listen({ type: 'recovered', connectionId, failures: 1 }),
    };
  };

  test('is told of at each doubling, with what to do', () => {
    const { fail } = start();
    for (const failures of from1to(9)) fail(failures);
    expect(counts()).toEqual([1, 2, 4, 8]);
    expect(lines[0]).toEqual({
      ...{ level: 'warn', msg: 'turn failed', connection_id: 'conn_a', failures: 1, retry_in_ms: 5_000 },
      ...{ kind: 'network', error: 'here: X', hint: expect.stringContaining('reachable') },
    });
  });

  test('is told of when it fails in another way, whatever the others do', () => {
    const { fail, recover } = start();
    for (const failures of from1to(5)) fail(failures);
    fail(5, 'timeout', 'conn_b');
    fail(6, 'timeout');
    fail(7, 'timeout');
    recover('conn_b');
    fail(7, 'timeout');
    expect(counts()).toEqual([1, 2, 4, 5, 6, 1]);
    recover('conn_a');
    // As at first, whatever the count.
    fail(3, 'timeout');
    expect(counts().at(-1)).toBe(3);
  });

  test.each<[level: string, msg: string, failures: number, kind: ErrorKind, retryIn: number]>([
    ['info', 'turn failed', 1, 'network', 999],
    ['warn', 'turn failed', 1, 'network', 1_000],
    ['warn', 'turn failed', 3, 'network', 1],
    ['warn', 'turn failed', 5, 'network', 300_000],
    ['error', 'turn failed', 6, 'network', 1],
    ['error', 'connection parked', 1, 'not_paired', 1],
  ])('is %s: %s, at failure %i of %s', (level, msg, failures, kind, retryIn) => {
    start().fail(failures, kind, 'conn_a', retryIn);
    expect(lines).toMatchObject([{ level, msg }]);
  });
});

test('a page is told of above debug only where something of it is in the quarantine', () => {
  const listen = eventLog(log);
  const [page] = EVENTS.page;
  listen({ ...page!, quarantined: 0 });
  expect(lines).toEqual([]);
  listen({ ...page!, quarantined: 2 });
  expect(lines).toMatchObject([{ level: 'warn', msg: 'records quarantined', records: 2 }]);
});

test('leases that are not renewed are told of at each doubling, from the second on as an error', () => {
  const listen = eventLog(log);
  for (const failures of from1to(5)) listen({ type: 'worker_failed', error: error('database'), failures });
  expect(lines.map(({ level, failures }) => [level, failures])).toEqual([
    ['warn', 1],
    ['error', 2],
    ['error', 4],
  ]);
});

test('a row that somebody has locked is told of at each doubling, with what to do', () => {
  const listen = eventLog(log);
  for (const looks of from1to(5)) listen({ type: 'lease_locked', connectionId: 'conn_a', looks });
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatchObject({ level: 'error', connection_id: 'conn_a', hint: expect.any(String) });
});

test('a command tells of what its output does not: trouble, and nothing that goes well', () => {
  const told = Object.entries(EVENTS).flatMap(([type, [event]]) => {
    empty();
    troubleLog(log)(event!);
    return lines.length === 0 ? [] : [type];
  });
  expect(told.sort()).toEqual(
    [
      ...['failed', 'gap', 'epoch', 'worker_failed', 'lease_locked'],
      ...['discovery_failed', 'nameless_keys'],
    ].sort(),
  );
});

describe('attachments', () => {
  const held = (failures: number, kind: ErrorKind, connectionId = 'conn_a') =>
    ({ type: 'held', connectionId, error: error(kind), failures, retryIn: 1 }) as const;

  test('that wait are told of at each doubling, and when it is for something else', () => {
    const listen = mediaLog(log);
    for (const failures of from1to(5)) listen(held(failures, 'not_ready'));
    listen(held(5, 'unauthorized', 'conn_b'));
    listen(held(6, 'unauthorized'));
    listen(held(7, 'unauthorized'));
    expect(counts()).toEqual([1, 2, 4, 5, 6]);
    listen({ type: 'released', connectionId: 'conn_a', failures: 7 });
    listen(held(3, 'unauthorized'));
    expect(counts().slice(5)).toEqual([7, 3]);
  });

  test('that all wait are told of at each doubling', () => {
    const listen = mediaLog(log);
    for (const failures of from1to(5))
      listen({ type: 'stopped', error: error('media_store'), failures, retryIn: 1 });
    expect(counts()).toEqual([1, 2, 4]);
    expect(lines[0]).toMatchObject({ level: 'error', hint: expect.stringContaining('MEDIA_STORE') });
  });

  test('that are lost are told of; those that there are not, and those to come, are not', () => {
    const listen = mediaLog(log);
    const gone = { type: 'gone', connectionId: 'conn_a', error: error('oversize') } as const;
    listen({ ...gone, state: 'unavailable' });
    listen({ type: 'again', connectionId: 'conn_a', error: error('network') });
    listen({ type: 'stored', connectionId: 'conn_a', bytes: 1, took: 1 });
    expect(lines).toEqual([]);
    listen({ ...gone, state: 'failed' });
    expect(lines).toMatchObject([{ level: 'warn', msg: 'attachment not kept', kind: 'oversize' }]);
  });
});
