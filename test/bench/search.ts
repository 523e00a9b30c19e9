import { tendIndexes } from '../../src/store/indexes.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { prepare, timesOf } from './queries.ts';
import { type BenchResult, number } from './result.ts';
import type { Stage } from './stage.ts';

const CONNECTIONS = 4;
const BUSIEST = '+4915100000001';

/** What is searched for; the name says how common it is. */
const SEARCHES: Readonly<Record<string, string>> = {
  'a word of half of the messages': `'w0'`,
  'a word of one in thirty': `'w10'`,
  'a word of one in a thousand': `'w1000'`,
  'a word of one in a hundred thousand': `'rareword'`,
  'a word that is not there': `'nosuchword'`,
  'a word of a tenth, none of it new': `'christmas'`,
  'two common words that never come together': `'aaa bbb'`,
  'two common words, as a phrase': `'"w0 w1"'`,
  'a common word without another': `'w0 -w1'`,
  'the beginning of a word': `'w123*'`,
  'a common word, the busiest person': `'w0', phone => '${BUSIEST}'`,
  'a seldom word, the busiest person': `'w5000', phone => '${BUSIEST}'`,
  'what never comes together, the busiest person': `'aaa bbb', phone => '${BUSIEST}'`,
  'a common word of the last day': `'w0', since => '2026-10-27'`,
  'a common word before the middle': `'w0', before => '2026-05-30'`,
  'a common word of a connection': `'w0', connection => 'conn1'`,
};

/** `search_messages` on many messages. */
export async function search(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(1_000_000, 2_000);
  const rows = (database: BenchDatabase) => generate(database, messages);
  const database = await prepare(stage, rows, (db) => tendIndexes(db, SCHEMA, { search: 'on' }));
  const [{ size }] = (await database.query<{ size: number }>(
    `select pg_relation_size('messages_by_words')::float8 / pg_relation_size('messages') as size`,
  )) as [{ size: number }];
  const calls = Object.entries(SEARCHES).map(([name, args]) => [
    name,
    `select * from search_messages(${args})`,
  ]);
  const series = await timesOf(stage, database, Object.fromEntries(calls));
  await database.drop();
  return {
    bench: 'search',
    about: `search_messages on ${number(messages)} messages of ten words and more over ${CONNECTIONS} connections, made in the database: some words are in half of them, most in a handful.`,
    tables: [
      {
        title: 'The newest 50',
        unit: 'ms',
        series,
        ratios: [],
        targets: Object.fromEntries(Object.keys(SEARCHES).map((name) => [name, '< 100'])),
        notes: [
          `By explain (analyze), planning included, the pages of the tables in memory. The index has ${number(size * 100)} % of the size of the table.`,
        ],
      },
    ],
  };
}

async function generate(database: BenchDatabase, messages: number): Promise<void> {
  const query = (text: string) => database.query(text.replaceAll('{s}', SCHEMA));
  await query('select setseed(0.5)');
  await query(
    `insert into {s}.connections (connection_id) select 'conn' || n from generate_series(1, ${CONNECTIONS}) n`,
  );
  await query(`insert into {s}.sync_state (connection_id) select connection_id from {s}.connections`);
  // The fourth power of an even number: few words, and few people, have most of it.
  await query(`insert into {s}.messages (connection_id, message_id, conversation_id, chat_jid, sender_jid, direction,
      is_from_me, content_type, body, sent_at, seq)
    select 'conn' || (1 + n % ${CONNECTIONS}), 'm' || n, 'chat' || p, jid, case when n % 3 = 0 then 'me' else jid end,
      case when n % 3 = 0 then 'outgoing' else 'incoming' end, n % 3 = 0, 'text',
      (select string_agg('w' || floor(power(random(), 4) * 30000 + 0 * (n + g))::int, ' ') from generate_series(1, 10) g)
        || case when n % 10 < 3 then ' aaa' when n % 10 >= 7 then ' bbb' else '' end
        || case when n % 100000 = 7 then ' rareword' else '' end
        || case when n between ${messages * 0.4} and ${messages * 0.5} then ' christmas' else '' end,
      timestamptz '2026-01-01' + n * interval '1 day' * 300 / ${messages}, n
    from generate_series(1, ${messages}) n
    cross join lateral (select 1 + floor(power(random(), 3) * ${Math.ceil(messages / 200)} + 0 * n)::int as p) x
    cross join lateral (select '49151' || lpad(p::text, 8, '0') || '@s.whatsapp.net' as jid) j`);
  await query(`insert into {s}.jids (connection_id, jid, phone_e164)
    select distinct connection_id, chat_jid, '+' || split_part(chat_jid, '@', 1) from {s}.messages`);
  await query(`insert into {s}.conversations (connection_id, conversation_id, chat_jid, kind)
    select distinct connection_id, conversation_id, chat_jid, 'direct' from {s}.messages`);
}
