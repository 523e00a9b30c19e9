/** Upkeep on its schedule: what was missed, interrupted, or has waited longest. */
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { noteOfPostgres } from '../../src/errors/errors.ts';
import { type ConnectionJob, Upkeep, type WorkerJob } from '../../src/ops/upkeep.ts';
import { useTestDatabase } from '../support/database.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
const { log, lines, empty } = logLines();
let running: Upkeep | undefined;
afterEach(async () => {
  await running?.stop();
  empty();
  await database.query('truncate whatsapp.upkeep');
});

const KEYS = { a: {}, b: {} };
/** Long ago enough that a run was missed since, whatever the time of day. */
const missed = (id: string, days: number) =>
  database.query(
    `insert into whatsapp.upkeep (connection_id, job, since, done_at)
      values ($1, 'it', now() - interval '90 days', now() - make_interval(days => $2))`,
    [id, days],
  );
const ids = ['a1', 'a2', 'a3', 'b1'];

/** Runs a daily job on connections of two keys; each run lasts until it is let go. */
function start(more: Partial<ConnectionJob> = {}, held: readonly string[] = ids, others: WorkerJob[] = []) {
  const begun: string[] = [];
  const open = new Map<string, (done: boolean | Error) => void>();
  const stopping = new AbortController();
  const job: ConnectionJob = {
    name: 'it',
    cron: '17 3 * * *',
    each: 'connection',
    run: (id, signal) => {
      begun.push(id);
      return new Promise<boolean>((resolve, reject) => {
        open.set(id, (done) => (done instanceof Error ? reject(done) : resolve(done)));
        signal.addEventListener('abort', () => resolve(false));
      });
    },
    ...more,
  };
  const groupOf = (id: string) => KEYS[id[0] as 'a' | 'b'];
  const upkeep = new Upkeep({
    db: database.db,
    jobs: [job, ...others],
    held: () => held,
    groupOf,
    log,
    signal: stopping.signal,
  });
  running = upkeep;
  upkeep.start();
  const end = async (id: string, done: boolean | Error = true) => {
    await waitFor(() => open.has(id), { what: `${id} to begin` });
    open.get(id)!(done);
    open.delete(id);
  };
  return { upkeep, begun, end, stopping };
}
const idle = (count: number) =>
  waitFor(
    async () =>
      (await database.query(`select from whatsapp.upkeep where done_at > now() - interval '1 minute'`))
        .length === count,
    { what: `${count} to be done` },
  );

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
  expect(lines).toMatchObject([
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
  expect(lines).toEqual([]);
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
  expect([begun, lines]).toEqual([[], []]);
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
  const { signal } = new AbortController();
  const upkeep = new Upkeep({
    ...{ db: database.db, jobs: [job, tick], held: () => [], groupOf: () => KEYS.a, log, signal },
  });
  running = upkeep;
  upkeep.start();
  await waitFor(() => ticks > 2, { what: 'it to be due again' });
  await upkeep.stop();
  expect([begun, ended, lines]).toEqual([1, true, []]);
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
  expect(lines).toEqual([]);
  failure = '42501';
  while (looks < 40) await look();
  await upkeep.stop();
  const told = lines.map(({ msg, job, failures }) => [msg, job, failures]);
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
  await waitFor(() => lines.length > 0, { what: 'a failure to be told of' });
  expect(lines).toMatchObject([
    { level: 'warn', msg: 'upkeep failed', job: 'own', error: 'using Postgres: 55P03' },
  ]);
});
