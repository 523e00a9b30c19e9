/** The functions of the change feed: the loop that is told of them, what they refuse, and whose they are. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { migrateToLatest } from '../../src/store/migrator.ts';
import { applyAnswer } from '../support/pages.ts';
import { message, read, useFeed } from './consumers.ts';

const feed = useFeed();
const { database, page } = feed;

test('the loop of docs/changes.md works as it stands there', async () => {
  const text = readFileSync(path.join(import.meta.dirname, '../../docs/changes.md'), 'utf8');
  const loop = /```sql\n(begin;\n[\s\S]*?commit;\n)```/.exec(text)![1]!;
  await feed.pool.query(`create schema crm; create table crm.inbox (connection_id text, message_id text, body text,
    primary key (connection_id, message_id))`);
  const incoming = { ...message(1, 1), direction: 'incoming' };
  await applyAnswer(
    database.db,
    {
      cursor: 1,
      // A receipt that is before its message.
      messages: [incoming, message(2, 1), { message_id: 'm3', status: 'read', seq: 1 }],
      contacts: [{ person_id: 'p' }],
    },
    {},
    'a',
  );
  await applyAnswer(database.db, { cursor: 1, messages: [incoming] }, {}, 'b');
  for (let times = 0; times < 2; times++) await feed.pool.query(loop);
  const late = { ...message(3, 2), direction: 'incoming' };
  const edited = { ...message(1, 2), direction: 'incoming' };
  await applyAnswer(database.db, { cursor: 2, messages: [late, edited] }, {}, 'a');
  await feed.pool.query(loop);
  expect((await feed.pool.query('select * from crm.inbox order by 1, 2')).rows).toEqual([
    { connection_id: 'a', message_id: 'm1', body: '1' },
    { connection_id: 'a', message_id: 'm3', body: '2' },
    { connection_id: 'b', message_id: 'm1', body: '1' },
  ]);
  expect((await feed.pool.query('select change_no from whatsapp.change_positions order by 1')).rows).toEqual([
    { change_no: '1' },
    { change_no: '6' },
  ]);
});

test('what cannot be done is an error with a code', async () => {
  await page('a', 1, 1, 2);
  expect(await read(feed.pool, 'crm', 1)).toHaveLength(1);
  const fails = async (statement: string, code: string) =>
    expect([statement, await feed.pool.query(statement).catch((error) => error.code)]).toEqual([
      statement,
      code,
    ]);
  await fails(`select whatsapp.ack_changes('crm', 'a', 2)`, 'WR003');
  await fails(`select whatsapp.ack_changes('crm', 'nowhere', 1)`, 'WR003');
  await fails(`select whatsapp.ack_changes('crm', 'a', null)`, 'WR003');
  await fails(`select whatsapp.ack_changes('crm', '{"a": "x"}')`, '22P02');
  await fails(`select whatsapp.ack_changes('crm', '{"a": 1e30}')`, '22003');
  await fails(`select whatsapp.ack_changes('crm', '[1]')`, '22023');
  await fails(`select whatsapp.ack_changes('nobody', 'a', 1)`, 'WR002');
  await fails(`select whatsapp.restart_consumer('nobody')`, 'WR002');
  await fails(`select whatsapp.restart_consumer('crm', 'nowhere')`, 'WR002');
  await fails(`select whatsapp.read_changes('crm', 0)`, '22023');
  await fails(`select whatsapp.read_changes('crm', null)`, '22023');
  // Two readers would share what they get.
  await fails(`select whatsapp.read_changes('crm', 1, null)`, '22023');
  await fails(`select whatsapp.read_changes('crm', 1, '-1 second')`, '22023');
  await fails(`select whatsapp.register_consumer('x', 'yesterday')`, '22023');
  await fails(`select whatsapp.register_consumer('x', null)`, '22023');
  for (const call of ['read_changes', 'register_consumer']) {
    await fails(`select whatsapp.${call}('')`, '23514');
    await fails(`select whatsapp.${call}(null)`, '23502');
  }
  expect((await feed.pool.query('select consumer from whatsapp.change_consumers')).rows).toEqual([
    { consumer: 'crm' },
  ]);
  const { rows } =
    await feed.pool.query(`select whatsapp.register_consumer('crm') as new, whatsapp.drop_consumer('crm') as gone,
    whatsapp.drop_consumer('crm') as again`);
  expect(rows).toEqual([{ new: false, gone: true, again: false }]);
  expect((await feed.pool.query('select from whatsapp.change_positions')).rowCount).toBe(0);
});

test('the functions are their schema’s, whatever it is called, and take no temporary table for their own', async () => {
  await migrateToLatest(database.url, 'another_one');
  await feed.pool.query(`insert into another_one.sync_state (connection_id, last_change_no) values ('a', 1)`);
  await feed.pool.query(`insert into another_one.changes values ('a', 1, 'message', 'm', 'inserted')`);
  const client = await feed.pool.connect();
  await client.query('create temporary table changes (like another_one.changes)');
  await client.query('create temporary table change_consumers (like another_one.change_consumers)');
  await client.query('set search_path to public');
  const { rows } = await client.query(`select connection_id, record_id from another_one.read_changes('crm')`);
  expect(rows).toEqual([{ connection_id: 'a', record_id: 'm' }]);
  // Leased, since nothing else was asked for.
  expect((await client.query(`select from another_one.read_changes('crm')`)).rowCount).toBe(0);
  await client.query(`select another_one.ack_changes('crm', 'a', 1)`);
  expect((await feed.pool.query('select change_no from another_one.change_positions')).rows).toEqual([
    { change_no: '1' },
  ]);
  expect((await feed.pool.query('select from whatsapp.change_consumers')).rowCount).toBe(0);
  await client.query(`select another_one.restart_consumer('crm', 'a', 'start')`);
  expect((await client.query(`select from another_one.read_changes('crm')`)).rowCount).toBe(1);
  client.release(true);
});
