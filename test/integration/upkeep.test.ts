/** Upkeep on its schedule: what was missed, interrupted, failed, or has waited longest. */
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { noteOfPostgres } from '../../src/errors/errors.ts';
import type { WorkerJob } from '../../src/ops/upkeep.ts';
import { waitFor } from '../support/wait.ts';
import { UpkeepScene } from './upkeep-scene.ts';

const scene = new UpkeepScene();
const { database, missed, idle, start } = scene;

test('a run that was missed is made up for once, oldest first, one at a time and key', async () => {
  await missed('a1', 3);
  await missed('a2', 50);
  await missed('b1', 2);
  // New here: it is due with the next time.
  const { upkeep, begun, end } = start();
  await waitFor(() => begun.length === 2, { what: 'one of each key' });
  expect([...begun].sort()).toEqual(['a2', 'b1']);
  upkeep.look();
  await end('a2');
  await end('a1', Object.assign(new Error('whatever'), { code: '55P03' }));
  await end('b1');
  await idle(3);
  upkeep.look();
  await upkeep.stop();
  expect(begun.toSorted()).toEqual(['a1', 'a2', 'b1']);
  // A failure is told of, and made up for by the next time.
  expect(
    await database.query(`select connection_id, error from whatsapp.upkeep where error is not null`),
  ).toEqual([{ connection_id: 'a1', error: 'database: using Postgres: 55P03' }]);
  expect(scene.lines).toMatchObject([
    { level: 'warn', msg: 'upkeep failed', job: 'it', connection_id: 'a1', error: 'using Postgres: 55P03' },
  ]);
});

test('what was interrupted is due again, for whoever has the connection then', async () => {
  await missed('a1', 3);
  const first = start();
  await waitFor(() => first.begun.length === 1, { what: 'its begin' });
  first.stopping.abort();
  await first.upkeep.stop();
  const second = start({
    async run(_, signal) {
      second.begun.push('a1');
      await once(signal, 'abort');
      throw signal.reason;
    },
  });
  await waitFor(() => second.begun.length === 1, { what: 'its next begin' });
  await second.upkeep.stop();
  const third = start();
  await third.end('a1');
  await idle(1);
  expect(scene.lines).toEqual([]);
});

test('what ended early is left to the next look', async () => {
  await missed('a1', 3);
  let looks = 1;
  const { begun, upkeep } = start({
    async run(id) {
      begun.push(id);
      return false;
    },
  });
  await waitFor(
    () => {
      looks++;
      upkeep.look();
      return begun.length >= 5;
    },
    { what: 'some of its beginnings' },
  );
  await upkeep.stop();
  expect(begun.length).toBeLessThanOrEqual(looks);
});

test('nothing begins any more once it is told to stop', async () => {
  await missed('a1', 3);
  const { begun, upkeep } = start({
    async run(id) {
      begun.push(id);
      return true;
    },
  });
  // It is still asking what is due.
  await upkeep.stop();
  expect([begun, scene.lines]).toEqual([[], []]);
  // Nor does it look again because of a gap that is told of meanwhile.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  upkeep.look();
  expect(vi.getTimerCount()).toBe(0);
});

test('what is due again is done again, by the same process', async () => {
  let runs = 0;
  start({
    cron: '* * * * * *',
    run: async (id) => {
      if (id === 'a1') runs++;
      return true;
    },
  });
  await waitFor(() => runs >= 3, { what: 'the third run' });
});

test('what cannot be done now waits; what is urgent does not', async () => {
  await missed('a1', 3);
  let able: string[] = [];
  let urgent: string[] = ['a3'];
  let asked = 0;
  const { upkeep, begun, end } = start({
    among: async (of) => {
      if (of.includes('a1')) asked++;
      return of.filter((id) => able.includes(id));
    },
    urgent: async (of) => of.filter((id) => urgent.includes(id)),
  });
  able = ['a2', 'a3'];
  await waitFor(
    () => {
      upkeep.look();
      return begun.length > 0;
    },
    { what: 'the urgent one' },
  );
  urgent = [];
  await end('a3');
  await idle(1);
  // The next is asked for only once nothing came of the one before.
  const before = asked;
  await waitFor(
    () => {
      upkeep.look();
      return asked >= before + 2;
    },
    { what: 'two looks' },
  );
  expect(begun).toEqual(['a3']);
  able = ['a1'];
  upkeep.look();
  await waitFor(
    () => {
      upkeep.look();
      return begun.length > 1;
    },
    { what: 'the one that was not able' },
  );
  expect(begun).toEqual(['a3', 'a1']);
});

test('what each worker does for itself is not begun twice, its end is waited for, and being interrupted is no failure of it', async () => {
  let [begun, ticks] = [0, 0];
  let ended = false;
  const job: WorkerJob = {
    name: 'own',
    cron: '* * * * * *',
    each: 'worker',
    async run(signal) {
      begun++;
      await once(signal, 'abort');
      await setImmediate();
      ended = true;
      signal.throwIfAborted();
    },
  };
  // Due as often.
  const tick: WorkerJob = { ...job, name: 'tick', run: async () => void ticks++ };
  const { upkeep } = start({}, [], [job, tick]);
  await waitFor(() => ticks > 2, { what: 'it to be due again' });
  await upkeep.stop();
  expect([begun, ended, scene.lines]).toEqual([1, true, []]);
});

test('an outage of Postgres is no failure of upkeep, and a fault is told as often as its count doubles', async () => {
  let failure = 'ECONNREFUSED';
  let looks = 0;
  const { upkeep } = start({
    among: async () => {
      looks++;
      throw Object.assign(new Error('whatever'), { code: failure });
    },
  });
  // A look passes over a key whose last one has not ended.
  const look = async () => {
    const before = looks;
    await waitFor(
      () => {
        upkeep.look();
        return looks >= before + 2;
      },
      { what: 'both keys to be looked at' },
    );
  };
  await look();
  await look();
  expect(scene.lines).toEqual([]);
  failure = '42501';
  while (looks < 40) await look();
  await upkeep.stop();
  const told = scene.lines.map(({ msg, job, failures }) => [msg, job, failures]);
  const [first] = told;
  expect(first).toEqual(['upkeep failed', 'it', 1]);
  expect(told.length).toBeLessThan(8);
});

test('an outage of Postgres is no failure of what each worker does for itself, and a lock that is not got is one', async () => {
  const gone = Object.assign(new Error('whatever'), { code: 'ECONNREFUSED' });
  noteOfPostgres(gone);
  const coded = (code: string) => Object.assign(new Error('whatever'), { code });
  const failures = [gone, coded('57P03'), coded('55P03')];
  const job: WorkerJob = {
    name: 'own',
    cron: '* * * * * *',
    each: 'worker',
    async run() {
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
    },
  };
  start({}, [], [job]);
  await waitFor(() => scene.lines.length > 0, { what: 'a failure to be told of' });
  expect(scene.lines).toMatchObject([
    { level: 'warn', msg: 'upkeep failed', job: 'own', error: 'using Postgres: 55P03' },
  ]);
});
