/** Erasure (R20): nothing of the person is left, nothing comes back, and everybody else's rows are untouched. */
import { expect, test } from 'vitest';
import { erase } from '../../src/sync/erase.ts';
import { dump, traces } from '../support/dump.ts';
import { CONNECTION } from '../support/pages.ts';
import {
  BOB,
  bring,
  database,
  db,
  EVE,
  HERS,
  ids,
  long,
  ME,
  message,
  messageIds,
  OTHER,
  ofEve,
  order,
  page,
  replay,
  useDatabase,
  world,
} from './erasure-world.ts';

useDatabase();

/** Rows of which nothing may change: everything of Bob's that does not speak of Eve. */
async function ofOthers() {
  const rows = (sql: string) => database.query<{ row: string }>(sql);
  return {
    contacts: await rows(
      `select t::text as row from whatsapp.contacts t where person_id <> '${EVE.id}' order by 1`,
    ),
    jids: await rows(`select t::text as row from whatsapp.jids t where person_id = '${BOB.id}' order by 1`),
    conversations: await rows(
      `select t::text as row from whatsapp.conversations t where conversation_id = 'cnv_bob' order by 1`,
    ),
    participants: await rows(
      `select t::text as row from whatsapp.conversation_participants t where participant_jid in ('${BOB.phone}') and conversation_id <> 'cnv_eve' order by 1`,
    ),
    memberships: await rows(
      `select t::text as row from whatsapp.conversation_memberships t where participant_jid = '${BOB.phone}' order by 1`,
    ),
    messages: await rows(
      `select t::text as row from whatsapp.messages t where message_id in ('m_plain') order by 1`,
    ),
    reactions: await rows(
      `select t::text as row from whatsapp.message_reactions t where reactor_jid = '${BOB.phone}' order by 1`,
    ),
    quarantine: await rows(
      `select t::text as row from whatsapp.quarantine t where record_id = 'm_bad_plain' order by 1`,
    ),
    counts: await rows(
      `select t::text as row from whatsapp.conversation_counts t where conversation_id <> 'cnv_eve' order by 1`,
    ),
  };
}

const books = async () =>
  (
    await database.query(`select stored_messages = (select count(*) from whatsapp.messages m where m.connection_id = s.connection_id) as messages,
      stored_contacts = (select count(*) from whatsapp.contacts m where m.connection_id = s.connection_id) as contacts,
      stored_conversations = (select count(*) from whatsapp.conversations m where m.connection_id = s.connection_id) as conversations
      from whatsapp.sync_state s order by connection_id`)
  ).every((row) => Object.values(row).every((equal) => equal === true));

/** No number of the feed is missing. */
const feedIsWhole = async () =>
  (
    await database.query(`select count(c.*) = s.last_change_no as whole from whatsapp.sync_state s
      left join whatsapp.changes c using (connection_id) group by s.connection_id, s.last_change_no`)
  ).every((row) => (row as { whole: boolean }).whole);

test('nothing is left anywhere, and everybody else is untouched', async () => {
  await bring(world());
  await bring(world(), OTHER);
  await bring(page({ messages: [message('m_group', { ...ofEve, body: 'HERWORD again' })] }));
  expect(traces(await dump(database), HERS).length).toBeGreaterThan(30);
  await database.query(
    `insert into whatsapp.verifications (connection_id, state, position)
      select $1, 'interrupted', jsonb_build_object('stage', 'messages', 'conversation', c, 'before', b)
        from unnest(array['cnv_eve', 'cnv_bob', 'cnv_bob'], array[null, 'm_plain', 'm_in']) p (c, b)`,
    [CONNECTION],
  );
  const before = await ofOthers();
  const { counts } = await erase(db, order());
  expect(counts).toEqual({
    ...{ contacts: 2, conversations: 2, messages: 4, tombstones: 4, mentions: 4, revisions: 3 },
    ...{ reactions: 2, memberships: 2, quarantined: 8, attachments: 0, links: 0 },
  });
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(await ofOthers()).toEqual(before);
  expect(
    await database.query(
      `select position ->> 'conversation' as at from whatsapp.verifications order by verification_id`,
    ),
  ).toEqual([{ at: null }, { at: 'cnv_bob' }, { at: null }]);
  expect(await books()).toBe(true);
  expect(await feedIsWhole()).toBe(true);
});

test('what others said and did stays: their reactions with every digit, their mentions of others, their threads', async () => {
  await bring(world());
  await erase(db, order());
  const [bob] = await database.query(
    `select reactions::text, extra::text, reply_to_wa_id, body, synced_at > first_synced_at as synced from whatsapp.messages where message_id = 'm_bob'`,
  );
  expect(bob).toEqual({
    reactions: `{"${BOB.phone}": {"n": 12345678901234567890, "emoji": "🎉"}}`,
    extra: `{"mentioned_jids": ["${BOB.phone}"]}`,
    ...{ reply_to_wa_id: 'WA_m_group', body: 'a word of Bob', synced: true },
  });
  const tombstones = await database.query(
    `select message_id, wa_message_id, content_type, synced_at > first_synced_at as synced, sender_jid, sender_push_name, body, media, extra, reactions, reply_to_wa_id, sent_at,
      erased_at is not null as erased from whatsapp.messages where message_id in ('m_group', 'm_lid') order by 1`,
  );
  const empty = {
    content_type: null,
    synced: true,
    sender_jid: null,
    sender_push_name: null,
    body: null,
    media: null,
    extra: null,
  };
  const kept = { sent_at: new Date(long(1)), erased: true };
  expect(tombstones).toEqual([
    {
      message_id: 'm_group',
      wa_message_id: 'WA_m_group',
      ...empty,
      reactions: null,
      reply_to_wa_id: null,
      ...kept,
    },
    {
      message_id: 'm_lid',
      wa_message_id: 'WA_m_lid',
      ...empty,
      reactions: { [BOB.phone]: { emoji: '🙏' } },
      reply_to_wa_id: 'WA_m_bob',
      ...kept,
    },
  ]);
});

test('a replay brings nothing back, and writes nothing but its own books', async () => {
  await bring(world());
  await erase(db, order());
  const tables = [
    'messages',
    'contacts',
    'conversations',
    'conversation_participants',
    'jids',
    'message_revisions',
    'message_reactions',
    'changes',
    'conversation_memberships',
    'conversation_counts',
    'suppressions',
  ];
  const rows = async () => {
    const all = await dump(database);
    return tables.map((table) => all.get(table));
  };
  const before = await rows();
  expect(await replay(world())).toBe(9);
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(await rows()).toEqual(before);
  expect(await books()).toBe(true);
});

test('a direct chat under a JID that nobody has told the person of goes whole, and is counted and told', async () => {
  await bring(world());
  const chat = { conversation_id: 'cnv_new', chat_jid: '900000000000077@lid' };
  const told = { conversation_id: 'cnv_new', chat_jid: EVE.phone };
  const toHer = { sender_jid: ME, direction: 'outgoing', is_from_me: true, body: 'TOHER' };
  const messages = [message('m_told', { ...told, ...ofEve }), message('m_new', { ...chat, ...toHer })];
  // Nobody has said yet what the third is, so that its members are kept as a group's are.
  const kindless = { conversation_id: 'cnv_kindless', chat_jid: EVE.phone, seq: 1 };
  const conversations = [
    { ...chat, kind: 'direct' },
    { ...kindless, participants: [{ participant_jid: ME }] },
  ];
  await bring(page({ conversations, messages }));
  await erase(db, order());
  expect((await messageIds()).filter((id) => ['m_told', 'm_new'].includes(id))).toEqual([]);
  expect(await ids('conversations', 'conversation_id')).toEqual(['cnv_bob', 'cnv_group']);
  expect(await books()).toBe(true);
  expect(
    await database.query("select op from whatsapp.changes where record_id = 'cnv_new' order by change_no"),
  ).toEqual([{ op: 'inserted' }, { op: 'deleted' }]);
  expect(
    await database.query('select distinct conversation_id as id from whatsapp.conversation_memberships'),
  ).toEqual([{ id: 'cnv_group' }]);
});

test('a group stays, whatever a message in it says of its chat', async () => {
  await bring(world());
  const odd = { chat_jid: EVE.phone };
  const ours = { ...odd, sender_jid: ME, is_from_me: null, direction: 'outgoing' };
  // The other one has nobody called a group yet.
  const kindless = { conversation_id: 'cnv_kindless', chat_jid: '120363000000000002@g.us', seq: 1 };
  const messages = [
    message('m_odd', odd),
    message('m_odd_ours', ours),
    message('m_odd_there', { ...odd, conversation_id: 'cnv_kindless' }),
  ];
  await bring(page({ messages, conversations: [kindless] }));
  await erase(db, order());
  expect((await messageIds()).filter((id) => id.startsWith('m_odd'))).toEqual([]);
  expect(await ids('conversations', 'conversation_id')).toEqual(['cnv_bob', 'cnv_group', 'cnv_kindless']);
  expect(await books()).toBe(true);
  const [counted] = await database.query(
    'select messages_in, messages_out from whatsapp.conversation_counts where conversation_id = $1',
    ['cnv_group'],
  );
  const there = await database.query(
    `select count(*) filter (where not is_from_me) as messages_in, count(*) filter (where is_from_me) as messages_out
      from whatsapp.messages where conversation_id = 'cnv_group'`,
  );
  expect([counted]).toEqual(there);
});
