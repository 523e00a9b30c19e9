/** How a verification waits until everything is replicated that changed until now. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { lockState } from '../../src/store/state.ts';
import { catchUp } from '../../src/sync/catch-up.ts';
import { settle } from '../../src/verify/settle.ts';
import { useFreshDatabase } from '../support/database.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const ID = 'conn_a';
const EACH = 1_000_000;
const { signal } = new AbortController();
const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let holder: TestWorker;

beforeEach(async () => {
  simulator = await startSimulator({ messages: 20, connections: [ID] });
  holder = await startWorker(env(), { discovers: false });
  const caughtUp = 'select from whatsapp.sync_state where caught_up_at is not null';
  await waitFor(async () => (await database.query(caughtUp)).length === 1, { what: 'the first page' });
});
afterEach(async () => {
  await holder?.stop();
  await simulator?.close();
});

/** Of itself nothing is polled for. */
const env = () => ({
  ...quickSettings(database.url, simulator.url),
  ...{
    POLL_INTERVAL: '1h',
    POLL_INTERVAL_IDLE: '1h',
    LEASE_TTL: '5s',
    BACKOFF_MAX: '1h',
    REQUEST_TIMEOUT: '1h',
  },
});
const settled = (replica: TestReplica = holder, id = ID, until = signal) =>
  settle(replica.worker, replica.workerOptions, id, until);

/** @returns whether it is stored. */
function say(): () => Promise<boolean> {
  const connection = simulator.world.connection(ID);
  const [conversation] = connection.conversations;
  const message = connection.addMessage({ conversation: conversation!, sentAt: Date.now() });
  const id = connection.messageId(message.index);
  return async () =>
    (await database.query('select from whatsapp.messages where message_id = $1', [id])).length === 1;
}

describe('where the worker has the connection', () => {
  test('its loop is woken, and waited for', async () => {
    const isStored = say();
    await settled();
    expect(await isStored()).toBe(true);
  });

  test('a failure that parks it is told at once', async () => {
    simulator.faults.script({ kind: 'answer', status: 402 }, EACH, { route: 'sync' });
    const failure = { kind: 'payment_required', message: expect.stringMatching(/^catching up: .*402/) };
    await expect(settled()).rejects.toMatchObject(failure);
  });

  test('one that passes is waited for, until there are five', async () => {
    simulator.faults.script({ kind: 'answer', status: 503 }, 4, { route: 'sync' });
    const isStored = say();
    await settled();
    expect(await isStored()).toBe(true);
    simulator.faults.script({ kind: 'answer', status: 503 }, EACH, { route: 'sync' });
    await expect(settled()).rejects.toMatchObject({ kind: 'not_ready' });
    expect(simulator.faults.scripted).toBeLessThanOrEqual(EACH - 5);
  });

  test('one of before, which may be mended by now, is no reason to give up', async () => {
    simulator.faults.script({ kind: 'answer', status: 402 }, 1, { route: 'sync' });
    await expect(settled()).rejects.toMatchObject({ kind: 'payment_required' });
    const isStored = say();
    await settled();
    expect(await isStored()).toBe(true);
  });

  test('nor is one of a turn that was under way: it is noted when it was made due', async () => {
    simulator.faults.script({ kind: 'hang' }, 1, { route: 'sync' });
    holder.worker.wake(ID);
    await waitFor(() => simulator.stats.inFlight(ID) === 1, { what: 'the request that hangs' });
    const due = 'select from whatsapp.sync_state where next_poll_at <= clock_timestamp()';
    expect(await database.query(due)).toEqual([]);
    const stop = new AbortController();
    const waiting = settled(holder, ID, stop.signal);
    await waitFor(async () => (await database.query(due)).length === 1, { what: 'it to be due' });
    stop.abort(new Error('ends'));
    await expect(waiting).rejects.toThrow('ends');
  });

  test('it is not waited for once that has lost it', async () => {
    let asked = false;
    simulator.stats.onRequest = () => {
      asked = true;
    };
    simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
    const lost = expect(settled()).rejects.toMatchObject({ kind: 'lease_lost' });
    await waitFor(() => asked, { what: 'the request that hangs' });
    await holder.worker.stop();
    await lost;
  });

  test('nor is one that is known no more', async () => {
    simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
    const unknown = expect(settled()).rejects.toMatchObject({ kind: 'not_found' });
    await database.query('delete from whatsapp.sync_state');
    await unknown;
  });

  test('nor by whoever is told to end', async () => {
    simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
    const stop = new AbortController();
    const waiting = settled(holder, ID, stop.signal);
    setImmediate(() => stop.abort(new Error('ends')));
    await expect(waiting).rejects.toThrow('ends');
    await expect(settled(holder, ID, stop.signal)).rejects.toThrow('ends');
  });
});

describe('where another has it', () => {
  let other: TestReplica;
  beforeEach(async () => {
    other = await createReplica(env());
    other.worker.start();
  });
  afterEach(async () => {
    await other.worker.stop();
    await other.close();
  });

  test('that one is waited for', async () => {
    const isStored = say();
    await settled(other);
    expect(await isStored()).toBe(true);
    expect(holder.worker.holds(ID)).toBe(true);
  });

  test('its failure is told', async () => {
    simulator.faults.script({ kind: 'answer', status: 402 }, EACH, { route: 'sync' });
    await expect(settled(other)).rejects.toMatchObject({ kind: 'payment_required' });
  });

  test('a connection that nobody knows is none to wait for', async () => {
    await expect(settled(other, 'conn_unknown')).rejects.toMatchObject({ kind: 'not_found' });
  });

  test('whoever is told to end does not wait', async () => {
    simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
    const stop = new AbortController();
    const waiting = settled(other, ID, stop.signal);
    setImmediate(() => stop.abort(new Error('ends')));
    await expect(waiting).rejects.toThrow('ends');
  });

  test('nor does he for an erasure, which has the row for as long as it takes', async () => {
    const stop = new AbortController();
    await database.db.transaction().execute(async (erasure) => {
      await lockState(erasure, ID);
      const waiting = settled(other, ID, stop.signal);
      setImmediate(() => stop.abort(new Error('ends')));
      await expect(waiting).rejects.toThrow('ends');
    });
  });
});

test('where nobody has it, whoever is told to end gives it back, whatever hangs', async () => {
  await holder.stop();
  const replica = await createReplica(env());
  replica.worker.start();
  simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
  const stop = new AbortController();
  const waiting = settled(replica, ID, stop.signal);
  await waitFor(() => simulator.stats.inFlight(ID) === 1, { what: 'the request that hangs' });
  stop.abort(new Error('ends'));
  await expect(waiting).rejects.toThrow('ends');
  expect(await database.query('select lease_owner from whatsapp.sync_state')).toEqual([
    { lease_owner: null },
  ]);
  // Nor is it taken again.
  expect(replica.events.filter(({ type }) => type === 'lease_taken')).toHaveLength(1);
  await replica.worker.stop();
  await replica.close();
});

test('a pass of one who has been told to end before asks for nothing', async () => {
  await holder.stop();
  const replica = await createReplica(env());
  replica.worker.start();
  simulator.faults.script({ kind: 'hang' }, EACH, { route: 'sync' });
  const told = AbortSignal.abort(new Error('ends'));
  const passes = await catchUp(replica.worker, replica.workerOptions, [ID], { maxFailures: 5 }, told);
  expect(passes).toMatchObject([{ caughtUp: false, byHolder: false }]);
  expect(simulator.stats.inFlight(ID)).toBe(0);
  await replica.worker.stop();
  await replica.close();
});
