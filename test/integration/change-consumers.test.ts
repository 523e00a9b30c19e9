import { setTimeout as sleep } from 'node:timers/promises';
import { expect, inject, test } from 'vitest';
import { Random } from '../../src/simulator/random.ts';
import { pruneChanges } from '../../src/store/changes.ts';
import { applyAnswer } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';
import { ack, type Change, message, names, read, useFeed } from './consumers.ts';

/* How consumers get the feed: whoever writes, reads, dies or prunes beside them. */

const feed = useFeed();
const { database, page } = feed;

const waitingReads = () =>
  database.query(`select from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%read_changes%'`);

/** The highest number of each connection among the rows, as `ack_changes` takes it. */
function positions(rows: readonly Change[]): Record<string, number> {
  return Object.fromEntries(rows.map((row) => [row.connection_id, Number(row.change_no)]));
}

test('with writers, readers that die and pruning beside them, nobody misses a row or shares one', async () => {
  const connections = ['a', 'b', 'c', 'd'];
  const PAGES = 20;
  const DAY = 86_400_000;
  const seed = inject('seed');
  let writing = true;

  // Somebody's long transaction, with an xid and a snapshot, is open from before the first page to after the last read.
  const other = await feed.pool.connect();
  await other.query('begin isolation level repeatable read');
  await other.query('create table public.elsewhere (id integer)');
  await other.query('select count(*) from whatsapp.changes');

  const write = async (connection: string, at: number) => {
    const random = new Random(seed + at);
    for (let cursor = 1; cursor <= PAGES; cursor++) {
      const ids = [...new Set(Array.from({ length: 1 + random.int(8) }, () => random.int(30)))];
      const crash = random.chance(0.2);
      const reached = (point: string) => {
        if (crash && point === 'before_commit') throw new Error('crash');
      };
      const messages = ids.map((id) => message(id, cursor));
      const contacts = [{ person_id: 'p', display_name: `${random.int(3)}` }];
      await applyAnswer(database.db, { cursor, messages, contacts }, { reached }, connection).catch(
        (error: Error) => {
          if (error.message !== 'crash') throw error;
        },
      );
    }
  };

  const held = new Set<string>();
  const had = new Set<string>();
  const handedTwice: string[] = [];
  const until = async (consumer: string, step: () => Promise<boolean>) => {
    const deadline = performance.now() + 30_000;
    for (;;) {
      const quiet = !writing;
      if (performance.now() > deadline) throw new Error(`${consumer} does not get the rest`);
      if (await step()) continue;
      const { rowCount } = await feed.pool.query(
        `select from whatsapp.sync_state s left join whatsapp.change_positions p
          on p.connection_id = s.connection_id and p.consumer = $1
          where s.last_change_no > coalesce(p.change_no, 0)`,
        [consumer],
      );
      if (quiet && rowCount === 0) return;
      await sleep(2);
    }
  };
  const reader = async (at: number) => {
    const random = new Random(seed + 100 + at);
    await until('crm', async () => {
      const dies = random.chance(0.2);
      const rows = await read(feed.pool, 'crm', 1 + random.int(20), dies ? '20 milliseconds' : '1 minute');
      if (dies) return rows.length > 0;
      handedTwice.push(...names(rows).filter((name) => held.has(name)));
      for (const name of names(rows)) held.add(name);
      await sleep(random.int(3));
      for (const name of names(rows)) {
        held.delete(name);
        had.add(name);
      }
      if (random.chance(0.5)) {
        await feed.pool.query('select whatsapp.ack_changes($1, $2)', [
          'crm',
          JSON.stringify(positions(rows)),
        ]);
      } else {
        for (const [connection, no] of Object.entries(positions(rows)))
          await ack(feed.pool, 'crm', connection, no);
      }
      return rows.length > 0;
    });
  };
  // Alone, and never dying: each row once, in its order.
  const audited = Object.fromEntries(connections.map((id) => [id, [] as number[]]));
  const audit = () =>
    until('audit', async () => {
      const rows = await read(feed.pool, 'audit', 7);
      for (const row of rows) audited[row.connection_id]?.push(Number(row.change_no));
      await feed.pool.query('select whatsapp.ack_changes($1, $2)', [
        'audit',
        JSON.stringify(positions(rows)),
      ]);
      return rows.length > 0;
    });
  const prune = async () => {
    while (writing) {
      for (const connection of connections) await pruneChanges(database.db, connection, DAY, 7);
      await sleep(5);
    }
  };

  await feed.pool.query(
    `select whatsapp.register_consumer('crm'), whatsapp.register_consumer('audit', 'now')`,
  );
  const writers = Promise.all(connections.map(write)).finally(() => {
    writing = false;
  });
  await Promise.all([writers, reader(0), reader(1), reader(2), audit(), prune()]);
  await other.query('rollback');
  other.release();

  expect(handedTwice).toEqual([]);
  const { rows: states } = await feed.pool.query<{ id: string; last: string }>(
    'select connection_id as id, last_change_no as last from whatsapp.sync_state order by 1',
  );
  expect(states.map(({ id }) => id)).toEqual(connections);
  const numbers = (last: string) => Array.from({ length: Number(last) }, (_, at) => at + 1);
  for (const { id, last } of states) {
    expect(Number(last)).toBeGreaterThan(PAGES / 2);
    expect(audited[id]).toEqual(numbers(last));
    expect(numbers(last).filter((no) => !had.has(`${id} ${no}`))).toEqual([]);
    while ((await pruneChanges(database.db, id, DAY, 7)) > 0);
  }
  expect((await feed.pool.query('select from whatsapp.changes')).rowCount).toBe(0);
});

test('read, write and acknowledge in one transaction: the connection is its own until the end, and a rollback gives it back', async () => {
  await page('a', 1, 1, 2);
  await page('b', 1, 1);
  const one = await feed.pool.connect();
  await one.query('begin');
  // One connection is enough for it: the other is left for others, who wait for nothing.
  expect(names(await read(one, 'crm', 2))).toEqual(['a 1', 'a 2']);
  await one.query('rollback');
  await feed.pool.query(`select whatsapp.register_consumer('crm')`);
  await one.query('begin');
  expect(names(await read(one, 'crm', 2))).toEqual(['a 1', 'a 2']);
  expect(names(await read(feed.pool, 'crm'))).toEqual(['b 1']);
  expect(await read(feed.pool, 'crm')).toEqual([]);
  await one.query('rollback');
  expect(names(await read(one, 'crm', 1))).toEqual(['a 1']);
  // A lease that was acknowledged whole ends, one that was not, does not.
  expect(await read(one, 'crm')).toEqual([]);
  await ack(one, 'crm', 'a', 1);
  expect(names(await read(one, 'crm'))).toEqual(['a 2']);
  await ack(one, 'crm', 'a', 1);
  expect(await read(one, 'crm')).toEqual([]);
  await ack(one, 'crm', 'a', 2);
  // Those that were read longest ago come first.
  await ack(one, 'crm', 'b', 1);
  await page('a', 2, 3, 4);
  await page('b', 2, 3, 4);
  expect(names(await read(one, 'crm', 3))).toEqual(['b 2', 'b 3', 'a 3']);
  // A lease that ran out: what was handed out then may still be acknowledged, and comes again until it is.
  await feed.pool.query(`update whatsapp.change_positions set leased_until = now() - interval '1 second'`);
  expect(names(await read(feed.pool, 'crm', 1))).toEqual(['b 2']);
  await ack(one, 'crm', 'b', 3);
  await ack(feed.pool, 'crm', 'b', 2);
  expect(names(await read(feed.pool, 'crm', 2))).toEqual(['a 3', 'a 4']);
  // And first of all one that was never read.
  await page('new', 1, 1);
  await page('b', 3, 5);
  expect(names(await read(one, 'crm', 1))).toEqual(['new 1']);
  expect(names(await read(one, 'crm', 1))).toEqual(['b 4']);
  one.release();
  // A connection that is new is read from its first change, whenever the consumer began.
  await feed.pool.query(`select whatsapp.register_consumer('late', 'now')`);
  await page('newer', 1, 1);
  expect(names(await read(feed.pool, 'late'))).toEqual(['newer 1']);
});

test('two that read a new connection at once share nothing, and none fails', async () => {
  await feed.pool.query(`select whatsapp.register_consumer('crm')`);
  await page('a', 1, 1);
  const one = await feed.pool.connect();
  await one.query('begin');
  expect(names(await read(one, 'crm'))).toEqual(['a 1']);
  const other = read(feed.pool, 'crm');
  await waitFor(async () => (await waitingReads()).length > 0, { what: 'the other to wait' });
  await one.query('commit');
  one.release();
  expect(await other).toEqual([]);
});

test('a consumer that is dropped while it reads can be registered again', async () => {
  await page('a', 1, 1);
  await feed.pool.query(`select whatsapp.register_consumer('crm')`);
  await page('new', 1, 1);
  // Another reader of it, that has not committed.
  const other = await feed.pool.connect();
  await other.query('begin');
  await other.query(`insert into whatsapp.change_positions (connection_id, consumer) values ('new', 'crm')`);
  const reading = read(feed.pool, 'crm');
  await waitFor(async () => (await waitingReads()).length > 0, { what: 'the read to wait' });
  await feed.pool.query(`select whatsapp.drop_consumer('crm')`);
  await other.query('rollback');
  other.release();
  expect(names(await reading)).toEqual(['new 1']);
  await feed.pool.query(`select whatsapp.register_consumer('crm')`);
  expect(names(await read(feed.pool, 'crm'))).toEqual(['a 1', 'new 1']);
});

test('a lease from before the clock was put back is over; one is for some time, which may be long', async () => {
  await page('a', 1, 1);
  const until = (leased: string, asOf: string) =>
    feed.pool.query(
      `update whatsapp.change_positions set leased_until = now() + $1::interval, read_at = now() + $2::interval`,
      [leased, asOf],
    );
  expect(names(await read(feed.pool, 'crm', 500, '30 days'))).toEqual(['a 1']);
  expect(await read(feed.pool, 'crm')).toEqual([]);
  // Clocks of servers differ a little.
  await until('30 days', '30 seconds');
  expect(await read(feed.pool, 'crm')).toEqual([]);
  await until('3 years', '3 years');
  expect(names(await read(feed.pool, 'crm'))).toEqual(['a 1']);
  expect(await read(feed.pool, 'crm')).toEqual([]);
});

test('one that is restarted reads at once, and acknowledges nothing of before', async () => {
  await page('a', 1, 1, 2);
  expect(names(await read(feed.pool, 'crm'))).toEqual(['a 1', 'a 2']);
  await feed.pool.query(`select whatsapp.restart_consumer('crm', 'a', 'start')`);
  await expect(ack(feed.pool, 'crm', 'a', 2)).rejects.toMatchObject({ code: 'WR003' });
  expect(names(await read(feed.pool, 'crm', 1))).toEqual(['a 1']);
});

test('a consumer that never had a change of a connection can be moved past those that are gone', async () => {
  await page('old', 1, 1);
  await feed.pool.query(`select whatsapp.register_consumer('crm', 'now'), whatsapp.register_consumer('all')`);
  for (let cursor = 1; cursor <= 3; cursor++) await page('new', cursor, 1);
  await feed.pool.query(`update whatsapp.changes set at = now() - interval '40 days'
    where connection_id = 'new' and change_no < 3`);
  expect(await pruneChanges(database.db, 'new', 30 * 86_400_000, 10)).toBe(2);
  for (const [consumer, connection] of [
    ['crm', 'new'],
    ['all', null],
  ]) {
    await expect(read(feed.pool, consumer!)).rejects.toMatchObject({ code: 'WR001' });
    await feed.pool.query('select whatsapp.restart_consumer($1, $2)', [consumer, connection]);
    expect(await read(feed.pool, consumer!)).toEqual([]);
  }
  await page('new', 4, 1);
  expect(names(await read(feed.pool, 'crm'))).toEqual(['new 4']);
  await feed.pool.query(`select whatsapp.restart_consumer('all', 'new', 'start')`);
  expect(names(await read(feed.pool, 'all'))).toEqual(['new 3', 'new 4']);
  // Where all that there were are gone, the start is behind them.
  await feed.pool.query(
    `update whatsapp.changes set at = now() - interval '40 days' where connection_id = 'new'`,
  );
  expect(await pruneChanges(database.db, 'new', 30 * 86_400_000, 10)).toBe(2);
  await feed.pool.query(`select whatsapp.register_consumer('from the start')`);
  await page('new', 5, 1);
  expect(names(await read(feed.pool, 'from the start'))).toEqual(['new 5', 'old 1']);
  // So it is for one that reads without being registered.
  expect(names(await read(feed.pool, 'unknown'))).toEqual(['new 5', 'old 1']);
});
