/** Upkeep on its schedule: what was missed, interrupted, or has waited longest. */
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { afterEach, expect, onTestFinished, test, vi } from 'vitest';
import { upkeepJobs } from '../../src/cli/jobs.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { type ConnectionJob, lastDue, Upkeep, type WorkerJob } from '../../src/ops/upkeep.ts';
import { assemble } from '../../src/replica/replica.ts';
import { useTestDatabase } from '../support/database.ts';
import { logLines } from '../support/log-lines.ts';
import { quickSettings } from '../support/replica.ts';
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

test('the end of what each worker does for itself is waited for, and being interrupted is no failure of it', async () => {
  const begun = Promise.withResolvers<void>();
  let ended = false;
  const job: WorkerJob = {
    name: 'own',
    cron: '* * * * * *',
    each: 'worker',
    async run(signal) {
      begun.resolve();
      await once(signal, 'abort');
      await setImmediate();
      ended = true;
      signal.throwIfAborted();
    },
  };
  const { signal } = new AbortController();
  const upkeep = new Upkeep({
    ...{ db: database.db, jobs: [job], held: () => [], groupOf: () => KEYS.a, log, signal },
  });
  running = upkeep;
  upkeep.start();
  await begun.promise;
  await upkeep.stop();
  expect([ended, lines]).toEqual([true, []]);
});

test("the daemon's jobs tell of what there was to do, and of nothing else", async () => {
  let logged = '';
  const stream = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  const env = { ...quickSettings(database.url, 'http://127.0.0.1:9'), RETAIN_MESSAGES: '60d' };
  const { settings } = loadSettings(env, { database: true, upstream: true });
  const replica = assemble({ settings, env, listen: () => {}, onIdleError: () => {} });
  onTestFinished(() => replica.close());
  const jobs = upkeepJobs(replica, createLogger({ level: 'info', format: 'json', stream }));
  const { signal } = new AbortController();
  const told = async () => {
    logged = '';
    for (const job of jobs) await (job.each === 'worker' ? job.run(signal) : job.run('a1', signal));
    return logged.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).msg]));
  };
  expect(await told()).toEqual([]);
  await database.query(`
    insert into whatsapp.workers (worker_id, heartbeat_at)
      values ('dead', now() - interval '8 days'), ('alive', now() - interval '6 days');
    insert into whatsapp.sync_state (connection_id, last_change_no) values ('a1', 1);
    insert into whatsapp.changes (connection_id, change_no, at) values ('a1', 1, now() - interval '31 days');
    insert into whatsapp.sync_pages (connection_id, cursor_from, cursor_to, applied_at)
      select 'a1', n, n + 1, date_trunc('day', now() - interval '100 days', 'UTC') from generate_series(0, 1) n;
    insert into whatsapp.messages (connection_id, message_id, sent_at) values ('a1', 'm', now() - interval '61 days')`);
  const done = ['dead workers forgotten', 'ledger folded', 'changes pruned', 'old messages deleted'];
  expect(await told()).toEqual(done);
  expect(await database.query('select worker_id from whatsapp.workers')).toEqual([{ worker_id: 'alive' }]);
  expect(await told()).toEqual([]);
});

test('when a schedule was last due', () => {
  const at = (cron: string, now: string) => {
    const due = lastDue(cron, Date.parse(now));
    return due === 0 ? 'never' : new Date(due).toISOString();
  };
  expect(at('17 3 * * *', '2026-11-24T03:17:00Z')).toBe('2026-11-24T03:17:00.000Z');
  expect(at('17 3 * * *', '2026-11-24T03:16:59Z')).toBe('2026-11-23T03:17:00.000Z');
  expect(at('0 4 1 * *', '2026-11-24T00:00:00Z')).toBe('2026-11-01T04:00:00.000Z');
  expect(at('0 4 29 2 *', '2026-11-24T00:00:00Z')).toBe('never');
  expect(at('*/10 * * * * *', '2026-11-24T00:00:17Z')).toBe('2026-11-24T00:00:10.000Z');
});
