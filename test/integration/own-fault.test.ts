import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { explain } from '../../src/main.ts';
import { errorFields } from '../../src/ops/logger.ts';
import { prepareSchema } from '../../src/replica/prepare-schema.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { SyncEvent } from '../../src/sync/events.ts';
import { useTestDatabase } from '../support/database.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker } from '../support/worker.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
});
afterAll(() => simulator.close());

function fault(): never {
  throw new TypeError('a fault of this program');
}

/** What is logged of the first failure. */
async function logged({ events }: Pick<TestReplica, 'events'>): Promise<Record<string, unknown>> {
  const isFailure = (event: SyncEvent) => event.type === 'failed' || event.type === 'worker_failed';
  const { error } = await waitFor(() => events.find(isFailure), { what: 'a failure' });
  return errorFields(error);
}

describe('a fault of this program is told as one, and where it is, instead of blaming Postgres', () => {
  const here = {
    kind: 'internal',
    error: expect.stringMatching(/: TypeError$/),
    at: expect.arrayContaining([expect.stringContaining('own-fault.test.ts')]),
  };

  test('while a page is written', async () => {
    const reached = (point: string) => void (point === 'rows_written' && fault());
    const worker = await startWorker(quickSettings(database.url, simulator.url), { reached });
    onTestFinished(() => worker.stop());
    expect(await logged(worker)).toEqual(here);
  });

  test('while the leases are tended to', async () => {
    const replica = await createReplica(quickSettings(database.url, simulator.url));
    onTestFinished(() => replica.close());
    replica.worker.start(async () => fault());
    const fields = await logged(replica);
    await replica.worker.stop();
    expect(fields).toEqual(here);
  });

  test('while the schema is prepared, on stderr', async () => {
    const replica = await createReplica(quickSettings(database.url, simulator.url));
    onTestFinished(() => replica.close());
    // What is asked last.
    const broken = {
      ...replica,
      get control() {
        return fault();
      },
    };
    const options = { migrate: true, patience: 60_000, onWaiting: () => {} };
    const { signal } = new AbortController();
    const error = await prepareSchema(broken, options, signal).catch((thrown: unknown) => thrown);
    expect(errorFields(error)).toEqual(here);
    let told = '';
    const stderr = { write: (text: string) => (told += text) } as unknown as NodeJS.WriteStream;
    expect(explain(error, { stderr, signal })).toBe(1);
    expect(told).toContain('wa-replica: internal error: ');
    expect(told).toContain('own-fault.test.ts');
  });
});
