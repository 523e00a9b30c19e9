import { buildIndexes } from '../../src/store/indexes.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { prepare, timesOf } from './queries.ts';
import { type BenchResult, number } from './result.ts';
import type { Stage } from './stage.ts';

const CONNECTIONS = 4;

/** By JID, as docs/crm.md says: a page then costs the same however many messages the person has. */
const ofPerson = (person: string) => `select f.* from identities i cross join lateral (
      select * from message_feed f where f.connection_id = i.connection_id and f.person_jid = i.jid
      order by f.sent_at desc limit 50
    ) f where i.${person.replaceAll(' and ', ' and i.')} order by f.sent_at desc limit 50`;

/** Pages of 50 rows that a screen shows; `hot` is the person, and the group, with by far the most messages. */
const PAGES: Readonly<Record<string, string>> = {
  'message_feed, newest of a connection': `select * from message_feed where connection_id = 'conn1'
    order by sent_at desc limit 50`,
  'message_feed, newest of all connections': `select f.* from connections c cross join lateral (
      select * from message_feed f where f.connection_id = c.connection_id and f.sent_at is not null
      order by f.sent_at desc limit 50
    ) f order by f.sent_at desc limit 50`,
  'message_feed, a day of a connection': `select * from message_feed where connection_id = 'conn1'
    and sent_at >= '2026-06-01' and sent_at < '2026-06-02' order by sent_at limit 50`,
  'message_feed, the largest group': `select * from message_feed
    where connection_id = 'conn1' and conversation_id = 'group1' order by sent_at desc limit 50`,
  'message_feed, its middle': `select * from message_feed
    where connection_id = 'conn1' and conversation_id = 'group1' and sent_at < '2026-06-01'
    order by sent_at desc limit 50`,
  'message_feed, the busiest person in a connection': ofPerson(
    `connection_id = 'conn1' and person_id = 'p1'`,
  ),
  'message_feed, the busiest person by E.164': ofPerson(`phone_e164 = '+4915100000001'`),
  'message_feed, an ordinary person by E.164': `select * from message_feed where person_e164 = '+4915100000101'
    order by sent_at desc limit 50`,
  'message_feed, a quiet person by E.164': `select * from message_feed
    where person_e164 = (select phone_e164 from jids order by last_message_at nulls last limit 1)
    order by sent_at desc limit 50`,
  'conversation_list, newest of a connection': `select * from conversation_list where connection_id = 'conn1'
    order by last_message_at desc nulls last limit 50`,
  'conversation_list, newest of all connections': `select v.* from connections c cross join lateral (
      select * from conversation_list v where v.connection_id = c.connection_id
      order by v.last_message_at desc nulls last limit 50
    ) v order by v.last_message_at desc nulls last limit 50`,
  'conversation_list, of a person by E.164': `select * from conversation_list
    where person_e164 = '+4915100000001' order by last_message_at desc nulls last limit 50`,
  'people, last contact first': 'select * from people order by last_contact_at desc nulls last limit 50',
  'people, by E.164': `select * from people where phone_e164 = '+4915100000001'`,
  'people, by a person of a connection': `select * from people where person_key = (
      select person_key from identities where connection_id = 'conn1' and person_id = 'p1' limit 1)`,
};

/** What a screen shows of the views, on many messages. */
export async function views(stage: Stage): Promise<BenchResult> {
  const messages = stage.rows(1_000_000, 2_000);
  const rows = (database: BenchDatabase) => generate(database, messages);
  const database = await prepare(stage, rows, (db) => buildIndexes(db, SCHEMA));
  const series = await timesOf(stage, database, PAGES);
  await database.drop();
  return {
    bench: 'views',
    about: `Pages of the views on ${number(messages)} messages over ${CONNECTIONS} connections, made in the database by generate_series: activity is uneven, some chats have hundreds of times the messages of others.`,
    tables: [
      {
        title: 'A page of 50 rows',
        unit: 'ms',
        series,
        ratios: [],
        targets: Object.fromEntries(Object.keys(PAGES).map((name) => [name, '< 50'])),
        notes: ['By explain (analyze), planning included, the pages of the tables in memory.'],
      },
    ],
  };
}

/**
 * People are spread over the connections, so that each is known to several; half of them write under a LID. A message
 * in five is a group's. What the page's transaction derives from rows is derived here set-based.
 */
async function generate(database: BenchDatabase, messages: number): Promise<void> {
  const people = Math.ceil(messages / 50);
  const groups = Math.ceil(messages / 1_000);
  const query = (text: string) => database.query(text.replaceAll('{s}', SCHEMA));
  const connection = (n: string) => `'conn' || (1 + ${n} % ${CONNECTIONS})`;
  await query(`select setseed(0.5)`);
  await query(`insert into {s}.connections (connection_id, jid)
    select 'conn' || n, '4930' || n || '00000@s.whatsapp.net' from generate_series(1, ${CONNECTIONS}) n`);
  await query(`insert into {s}.contacts (connection_id, person_id, display_name, whatsapp_push_name, phone_e164,
      phone_jid, lid_jid)
    select ${connection('n')}, 'p' || p, case when p % 3 > 0 then 'Person ' || p end, 'push ' || p,
      '+49151' || lpad(p::text, 8, '0'), '49151' || lpad(p::text, 8, '0') || '@s.whatsapp.net',
      case when p % 2 = 0 then (10000000000000 + p) || '@lid' end
    from generate_series(0, ${people - 1}) n cross join lateral (select 1 + n / ${CONNECTIONS} as p) x`);
  await query(`insert into {s}.conversations (connection_id, conversation_id, chat_jid, kind, direct_person_id)
    select connection_id, 'chat' || person_id, coalesce(lid_jid, phone_jid), 'direct', person_id from {s}.contacts`);
  await query(`insert into {s}.conversations (connection_id, conversation_id, chat_jid, kind, subject)
    select ${connection('n')}, 'group' || (1 + n / ${CONNECTIONS}), n || '@g.us', 'group', 'Group ' || n
    from generate_series(0, ${groups - 1}) n`);
  // Some have far more messages than others: the third power of an even number.
  await query(`insert into {s}.messages (connection_id, message_id, conversation_id, chat_jid, sender_jid,
      sender_push_name, direction, is_from_me, content_type, body, status, sent_at, seq)
    select c, 'm' || n, case when grouped then 'group' || g else 'chatp' || p end,
      case when grouped then g || '@g.us' else jid end, case when mine then '4930@s.whatsapp.net' else jid end,
      'push ' || p, case when mine then 'outgoing' else 'incoming' end, mine, 'text', repeat('text ', 1 + n % 20),
      'read', timestamptz '2026-01-01' + n * interval '1 day' * 300 / ${messages}, n
    from generate_series(1, ${messages}) n
    cross join lateral (select 1 + floor(power(random(), 3) * ${Math.floor(people / CONNECTIONS)} + 0 * n)::int as p,
      1 + floor(power(random(), 3) * ${Math.floor(groups / CONNECTIONS)} + 0 * n)::int as g, n % 5 = 0 as grouped,
      n % 3 = 0 as mine, ${connection('(n / 5)')} as c) x
    cross join lateral (select case when p % 2 = 0 then (10000000000000 + p) || '@lid'
      else '49151' || lpad(p::text, 8, '0') || '@s.whatsapp.net' end as jid) j`);
  await query(`insert into {s}.conversation_participants (connection_id, conversation_id, participant_jid)
    select connection_id, conversation_id, sender_jid from {s}.messages
    where conversation_id like 'group%' group by 1, 2, 3`);
  await query(`insert into {s}.jids (connection_id, jid, person_id, phone_e164)
    select connection_id, j, person_id, phone_e164 from {s}.contacts
      cross join lateral (values (phone_jid), (lid_jid)) f (j) where j is not null`);
  const counts = `count(*) filter (where not is_from_me) as i, count(*) filter (where is_from_me) as o,
    min(sent_at) as first, max(sent_at) as last`;
  await query(`insert into {s}.conversation_counts
    select connection_id, conversation_id, ${counts} from {s}.messages group by 1, 2`);
  await query(`update {s}.conversations t set last_message_at = n.last_message_at from {s}.conversation_counts n
    where (t.connection_id, t.conversation_id) = (n.connection_id, n.conversation_id)`);
  await query(`update {s}.jids t set last_message_at = v.last_message_at from {s}.conversations v
    where v.kind = 'direct' and (t.connection_id, t.jid) = (v.connection_id, v.chat_jid)`);
}
