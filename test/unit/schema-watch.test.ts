import { expect, test } from 'vitest';
import { ReplicaError } from '../../src/errors.ts';
import { SchemaWatch } from '../../src/ops/schema-watch.ts';
import { waitFor } from '../support/wait.ts';

const newer = new ReplicaError('schema_newer', { where: 'the schema has 0002, this program ends at 0001' });
const never = new AbortController().signal;

test('looks now and then; an outage, and a schema that is behind, say nothing', async () => {
  const results = [
    undefined,
    Object.assign(new Error('terminated'), { code: '57P01' }),
    new ReplicaError('schema_pending', { where: 'the schema lacks 0001' }),
    undefined,
    newer,
  ];
  let looks = 0;
  const check = async () => {
    const result = results[looks++];
    if (result !== undefined) throw result;
  };
  expect(await new SchemaWatch(1).newer(check, never)).toBe(newer);
  expect(looks).toBe(results.length);
});

test.each([
  ['42P01', true],
  ['42703', true],
  ['42501', false],
  ['57P01', false],
  [undefined, false],
])('a page that fails with %s makes it look at once: %s', async (code, looks) => {
  const watch = new SchemaWatch(3_600_000);
  const ended = new AbortController();
  let looked = false;
  const check = async () => {
    looked = true;
    throw newer;
  };
  const watching = watch.newer(check, ended.signal);
  const error = new ReplicaError('database', { where: 'writing a page', code });
  watch.listen({ type: 'failed', connectionId: 'conn', error, failures: 1, retryIn: 1 });
  if (looks) expect(await watching).toBe(newer);
  ended.abort();
  await watching;
  expect(looked).toBe(looks);
});

test('ends with the signal', async () => {
  const ended = new AbortController();
  let looks = 0;
  const watching = new SchemaWatch(1).newer(async () => void looks++, ended.signal);
  await waitFor(() => looks > 2, { what: 'some looks' });
  ended.abort();
  expect(await watching).toBeUndefined();
});
