/** Upkeep by clocks that are put back or forward, stand still with their machine, or are another worker's. */
import { expect, onTestFinished, test, vi } from 'vitest';
import type { WorkerJob } from '../../src/ops/upkeep.ts';
import { waitFor } from '../support/wait.ts';
import { UpkeepScene } from './upkeep-scene.ts';

const { database, missed, idle, start } = new UpkeepScene();

test('no clock that is put back keeps it from what is due, or from ever being done', async () => {
  const DAYS = 1_000;
  const own: number[] = [];
  const each: WorkerJob = {
    ...{ name: 'own', cron: '* * * * * *', each: 'worker' },
    run: async () => void own.push(Date.now()),
  };
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + DAYS * 86_400_000 });
  await missed('a1', 3);
  const { upkeep, begun, end } = start({}, ['a1'], [each]);
  const doneAgo = async (days: number) => {
    const { length } = await database.query(
      `select from whatsapp.upkeep where done_at between now() - make_interval(days => $1, mins => 1)
        and now() - make_interval(days => $1, mins => -1)`,
      [days],
    );
    return length === 1;
  };
  await end('a1');
  await waitFor(() => doneAgo(-DAYS), { what: 'it to be done' });
  vi.useRealTimers();
  const again = () => {
    upkeep.look();
    return begun.length > 1;
  };
  await waitFor(again, { what: 'it to begin again' });
  await end('a1');
  await waitFor(() => doneAgo(0), { what: 'it to be done again' });
  await waitFor(() => own.length > 0, { what: "the worker's own" });
  upkeep.look();
  await upkeep.stop();
  expect(begun).toEqual(['a1', 'a1']);
});

test('what came due while the machine slept is made up for once, however long that was', async () => {
  let own = 0;
  const minutely: WorkerJob = {
    ...{ name: 'own', cron: '* * * * *', each: 'worker' },
    run: async () => void own++,
  };
  onTestFinished(() => void vi.useRealTimers());
  await missed('a1', 3);
  const { upkeep, begun, end } = start({}, ['a1'], [minutely]);
  await end('a1');
  await idle(1);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 40 * 365 * 86_400_000 });
  own = 0;
  upkeep.look();
  await end('a1');
  await waitFor(() => own > 0, { what: "the worker's own" });
  upkeep.look();
  await upkeep.stop();
  expect([begun, own]).toEqual([['a1', 'a1'], 1]);
});

test("what was done by another worker's clock that is a little ahead is done", async () => {
  await missed('a1', 3);
  await database.query(`insert into whatsapp.upkeep (connection_id, job, done_at)
    values ('a2', 'it', now() + interval '50 minutes')`);
  const { upkeep, begun, end } = start({}, ['a1', 'a2']);
  await end('a1');
  await idle(2);
  upkeep.look();
  await upkeep.stop();
  expect(begun).toEqual(['a1']);
});
