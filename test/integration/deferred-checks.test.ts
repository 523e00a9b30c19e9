import { beforeAll, expect, test } from 'vitest';
import { useTestDatabase } from '../support/database.ts';
import { Bench } from './raw-pages.ts';
import { useRefusal } from './refusal.ts';

/*
 * Checks of a CRM's own that Postgres makes when a page commits.
 */

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);
useRefusal(database);

beforeAll(async () => {
  await database.query(`
    create function whatsapp.refuse_late() returns trigger language plpgsql as $$
    declare code text := substring(new.body from 'late:([0-9A-Z]{5})');
    begin
      if code is not null then raise exception 'refused' using errcode = code; end if;
      return null;
    end $$;
    create constraint trigger refuse_late after insert or update on whatsapp.messages
      deferrable initially deferred for each row execute function whatsapp.refuse_late();
    create function whatsapp.want_message() returns trigger language plpgsql as $$
    begin
      if new.subject = 'with a message' and not exists (select from whatsapp.messages m
          where m.connection_id = new.connection_id and m.conversation_id = new.conversation_id) then
        raise exception 'refused' using errcode = '23514';
      end if;
      return null;
    end $$;
    create constraint trigger want_message after insert or update on whatsapp.conversations
      deferrable initially deferred for each row execute function whatsapp.want_message()`);
});

const message = (id: string, seq: number, body: string) => ({
  ...{ message_id: id, conversation_id: `of ${id}`, seq, body },
});
const bodies = (ids: string) =>
  bench.query('select body from whatsapp.messages where message_id like $1 order by message_id', ids);

test('a record that is refused by one is quarantined, alone (R9)', async () => {
  const lists = {
    messages: [message('a1', 1, 'good'), message('a2', 2, 'late:22001'), message('a3', 3, 'late:54000')],
  };
  const { tally } = await bench.bring(lists);
  expect(tally.message.inserted).toBe(1);
  expect(await bodies('a%')).toEqual([{ body: 'good' }]);
  const aside = await bench.entries(`record_id like 'a%'`);
  expect(aside.map((entry) => [entry.record_id, entry.error_code])).toEqual([
    ['a2', '22001'],
    ['a3', '54000'],
  ]);
});

test('one that holds at the end of the page is no hindrance where another record is refused', async () => {
  const lists = {
    conversations: [{ conversation_id: 'of b1', seq: 4, subject: 'with a message' }],
    messages: [message('b1', 5, 'good'), message('b2', 6, 'refuse:22023')],
  };
  const { tally } = await bench.bring(lists);
  expect([tally.conversation.inserted, tally.message.inserted]).toEqual([1, 1]);
});

test('any other SQLSTATE of one is a failure of the database: nothing is written', async () => {
  const lists = { messages: [message('d1', 7, 'good'), message('d2', 8, 'late:23514')] };
  await expect(bench.bring(lists)).rejects.toMatchObject({ code: '23514' });
  expect(await bodies('d%')).toEqual([]);
});
