import { afterEach, expect, test } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { SchemaWatch } from '../../src/ops/schema-watch.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';

const newer = new ReplicaError('schema_newer', { where: 'the schema has 0002, this program ends at 0001' });
const never = new AbortController().signal;
const { log, lines, empty } = logLines();
afterEach(empty);

test('looks now and then; an outage says nothing', async () => {
  const lost = new ReplicaError('database', { where: 'using Postgres', code: 'CONNECTION_LOST' });
  const ended = Object.assign(new Error('terminated'), { code: '57P01' });
  const results = [undefined, ended, lost, undefined, newer];
  let looks = 0;
  const check = async () => {
    const result = results[looks++];
    if (result !== undefined) throw result;
  };
  expect(await new SchemaWatch(1).outdated(check, log, never)).toBe(newer);
  expect(looks).toBe(results.length);
  expect(lines).toEqual([]);
});

test('rows that are hidden end it as well', async () => {
  const hidden = new ReplicaError('database_unfit', { where: 'rows are hidden' });
  const check = async () => {
    throw hidden;
  };
  expect(await new SchemaWatch(1).outdated(check, log, never)).toBe(hidden);
});

test.each([
  ['failed', '42P01', true],
  ['failed', '42703', true],
  ['failed', '42501', true],
  ['failed', '57P01', false],
  ['failed', undefined, false],
  ['worker_failed', '42703', true],
] as const)('what has %s with %s makes it look at once: %s', async (type, code, looks) => {
  const watch = new SchemaWatch(3_600_000);
  const ended = new AbortController();
  let looked = false;
  const check = async () => {
    looked = true;
    throw newer;
  };
  const watching = watch.outdated(check, log, ended.signal);
  const error = new ReplicaError('database', { where: 'writing a page', code });
  if (type === 'worker_failed') watch.listen({ type, error, failures: 1 });
  else watch.listen({ type, connectionId: 'conn', error, failures: 1, retryIn: 1 });
  if (looks) expect(await watching).toBe(newer);
  ended.abort();
  await watching;
  expect(looked).toBe(looks);
});

test('ends with the signal', async () => {
  const ended = new AbortController();
  let looks = 0;
  const watching = new SchemaWatch(1).outdated(async () => void looks++, log, ended.signal);
  await waitFor(() => looks > 2, { what: 'some looks' });
  ended.abort();
  expect(await watching).toBeUndefined();
});

test('what keeps it from looking is told, at each doubling in a row, and it goes on', async () => {
  const fault = new TypeError('a fault of this program');
  const refused = Object.assign(new Error('no'), { code: '42501' });
  const results = [fault, fault, fault, refused, undefined, refused, newer];
  let looks = 0;
  const check = async () => {
    const result = results[looks++];
    if (result !== undefined) throw result;
  };
  expect(await new SchemaWatch(1).outdated(check, log, never)).toBe(newer);
  const told = { level: 'error', msg: 'cannot watch the schema' };
  const internal = { ...told, kind: 'internal', error: "reading the schema's version: TypeError" };
  const at = [expect.stringContaining('schema-watch.test.ts'), ...Array(3).fill(expect.any(String))];
  const denied = { ...told, kind: 'database', error: "reading the schema's version: 42501" };
  expect(lines).toMatchObject([
    { ...internal, at, failures: 1 },
    { ...internal, failures: 2 },
    { ...denied, failures: 4 },
    { ...denied, failures: 1 },
  ]);
});
