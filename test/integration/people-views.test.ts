/** How people, chats and messages show (`0003_people.ts`), where the tables lack something or have it several times. */
import { beforeAll, expect, test } from 'vitest';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });
const rows = (sql: string) => database.query<Record<string, unknown>>(sql);

const DAY = (day: number) => `2026-11-0${day}T00:00:00Z`;

beforeAll(async () => {
  await rows(`insert into whatsapp.contacts
      (connection_id, person_id, display_name, first_name, last_name, whatsapp_push_name, synced_at) values
    ('one', 'display', 'Display', 'First', 'Last', 'push', now()), ('one', 'first', '', 'First', '', 'push', now()),
    ('one', 'push', '', ' ', '', 'push', now()), ('one', 'none', '', null, '', '', now()),
    ('two', 'older', 'Older', null, null, null, now() - interval '1 day'), ('two', 'display', null, null, null, '', now()),
    ('two', 'push', null, null, null, 'other push', now() + interval '1 day')`);
  await rows(`insert into whatsapp.jids (connection_id, jid, person_id, phone_e164, last_message_at) values
    ('one', 'display@lid', 'display', '+1000001', '${DAY(2)}'), ('one', '1000001@s.whatsapp.net', 'display', '+1000001', null),
    ('two', '1000001@s.whatsapp.net', 'older', '+1000001', '${DAY(1)}'),
    ('one', 'first@lid', 'first', '+1000002', null), ('two', 'first@lid', 'push', '+1000002', null),
    ('one', 'push@lid', 'push', '+1000003', null), ('two', 'push@lid', 'display', '+1000003', null),
    ('one', 'none@lid', 'none', null, null), ('two', 'none@lid', 'none', null, null),
    ('one', 'stranger@lid', null, null, '${DAY(3)}'), ('one', '1000009@s.whatsapp.net', null, '+1000009', null)`);
  await rows(`insert into whatsapp.conversations (connection_id, conversation_id, kind, chat_jid, subject, direct_person_id) values
    ('one', 'c1', 'direct', 'display@lid', null, null), ('one', 'c2', 'direct', '1000009@s.whatsapp.net', null, 'display'),
    ('two', 'c3', 'direct', '1000001@s.whatsapp.net', null, 'display'), ('one', 'c4', 'direct', 'unknown@lid', null, 'first'),
    ('one', 'c5', 'direct', 'stranger@lid', null, null), ('one', 'c6', 'group', '1@g.us', '', null),
    ('one', 'c7', 'direct', '1000009@s.whatsapp.net', null, null), ('one', 'c8', 'group', 'c8', 'c8', null),
    ('one', 'c9', 'group', 'c9', 'c9', null)`);
  await rows(`insert into whatsapp.conversation_counts values
    ('one', 'c1', 2, 1, '${DAY(2)}', '${DAY(3)}'), ('two', 'c3', 5, 0, '${DAY(1)}', '${DAY(1)}')`);
  await rows(
    `insert into whatsapp.connections (connection_id, jid) values ('one', '1000005:12@s.whatsapp.net'), ('two', null)`,
  );
  await rows(`insert into whatsapp.messages (connection_id, message_id, conversation_id, chat_jid, sender_jid,
      sender_push_name, direction, is_from_me, content_type, body, sent_at) values
    ('one', 'm1', 'c1', 'display@lid', 'push@lid', 'pushed', 'incoming', false, 'text', 'first', '${DAY(1)}'),
    ('one', 'm2', 'c1', 'display@lid', '1000004@s.whatsapp.net', '', 'outgoing', null, 'image', 'last', '${DAY(2)}'),
    ('one', 'm3', 'c1', 'display@lid', null, '', 'outgoing', true, 'text', 'timeless', null),
    ('one', 'm5', 'c8', 'c8', null, '', 'incoming', false, 'text', 'first put in', '${DAY(1)}'),
    ('one', 'm6', 'c8', 'c8', null, '', 'outgoing', true, 'image', 'put in later', '${DAY(1)}'),
    ('one', 'm8', 'c9', 'c9', null, '', 'incoming', false, 'text', 'first put in', '${DAY(1)}'),
    ('one', 'm7', 'c9', 'c9', null, '', 'outgoing', true, 'image', 'put in later', '${DAY(1)}'),
    ('one', 'm4', 'nowhere', 'chat@lid', 'nobody@lid', '', 'incoming', null, 'text', 'lost', '${DAY(1)}')`);
});

test('a name is what they are called here, else how they call themselves; what is empty is none', async () => {
  expect(
    await rows(`select person_id, name from whatsapp.identities where connection_id = 'one'
    and person_id is not null group by 1, 2 order by 1`),
  ).toEqual([
    { person_id: 'display', name: 'Display' },
    { person_id: 'first', name: 'First' },
    { person_id: 'none', name: null },
    { person_id: 'push', name: 'push' },
  ]);
});

test('a chat’s title is a name, a number, a subject, or its JID; its last message is the last with a time', async () => {
  const title = await rows(
    'select conversation_id as id, title, person_id from whatsapp.conversation_list order by 1',
  );
  expect(title.map(({ id, title, person_id }) => [id, title, person_id])).toEqual([
    ['c1', 'Display', 'display'],
    ['c2', 'Display', 'display'],
    ['c3', 'Older', 'older'],
    ['c4', 'First', 'first'],
    ['c5', 'stranger@lid', null],
    ['c6', '1@g.us', null],
    ['c7', '+1000009', null],
    ['c8', 'c8', null],
    ['c9', 'c9', null],
  ]);
  const last =
    await rows(`select last_message_id, last_message_body, last_message_type, last_message_is_from_me, messages,
    messages_in, messages_out, participants from whatsapp.conversation_list where conversation_id in ('c1', 'c6') order by conversation_id`);
  expect(last).toEqual([
    {
      ...{ last_message_id: 'm2', last_message_body: 'last', last_message_type: 'image' },
      ...{
        last_message_is_from_me: true,
        messages: '3',
        messages_in: '2',
        messages_out: '1',
        participants: '0',
      },
    },
    {
      ...{ last_message_id: null, last_message_body: null, last_message_type: null },
      ...{
        last_message_is_from_me: null,
        messages: '0',
        messages_in: '0',
        messages_out: '0',
        participants: '0',
      },
    },
  ]);
});

test('a message says who sent it, as far as anybody has told', async () => {
  expect(
    await rows(`select message_id as id, is_from_me as ours, chat_title, sender_name, sender_e164, person_jid, person_name
      from whatsapp.message_feed where message_id <= 'm4' order by 1`),
  ).toEqual([
    {
      ...{ id: 'm1', ours: false, chat_title: 'Display', sender_name: 'push', sender_e164: '+1000003' },
      ...{ person_jid: 'push@lid', person_name: 'push' },
    },
    {
      ...{ id: 'm2', ours: true, chat_title: 'Display', sender_name: null, sender_e164: '+1000004' },
      ...{ person_jid: 'display@lid', person_name: 'Display' },
    },
    {
      ...{ id: 'm3', ours: true, chat_title: 'Display', sender_name: null, sender_e164: '+1000005' },
      ...{ person_jid: 'display@lid', person_name: 'Display' },
    },
    {
      ...{ id: 'm4', ours: false, chat_title: 'chat@lid', sender_name: null, sender_e164: null },
      ...{ person_jid: 'nobody@lid', person_name: null },
    },
  ]);
});

test('a person is one row, by the best name that any connection has; who never wrote and is nobody is none', async () => {
  const people = await rows(
    'select * from whatsapp.people order by last_contact_at desc nulls last, person_key collate "C"',
  );
  const none = { first_contact_at: null, last_contact_at: null, messages_in: '0', messages_out: '0' };
  const both = ['one', 'two'];
  expect(people).toEqual([
    {
      ...{
        person_key: 'one stranger@lid',
        phone_e164: null,
        name: null,
        connection_ids: ['one'],
        jids: ['stranger@lid'],
      },
      ...{ ...none, last_contact_at: new Date(DAY(3)) },
    },
    {
      ...{ person_key: '+1000001', phone_e164: '+1000001', name: 'Display', connection_ids: both },
      ...{ jids: ['1000001@s.whatsapp.net', 'display@lid'], messages_in: '7', messages_out: '1' },
      ...{ first_contact_at: new Date(DAY(1)), last_contact_at: new Date(DAY(2)) },
    },
    {
      ...{
        person_key: '+1000002',
        phone_e164: '+1000002',
        name: 'First',
        connection_ids: both,
        jids: ['first@lid'],
      },
      ...none,
    },
    {
      ...{
        person_key: '+1000003',
        phone_e164: '+1000003',
        name: 'push',
        connection_ids: both,
        jids: ['push@lid'],
      },
      ...none,
    },
    {
      person_key: 'one none',
      phone_e164: null,
      name: null,
      connection_ids: ['one'],
      jids: ['none@lid'],
      ...none,
    },
    {
      person_key: 'two none',
      phone_e164: null,
      name: null,
      connection_ids: ['two'],
      jids: ['none@lid'],
      ...none,
    },
  ]);
});

test('of several messages of one second, a chat’s last is the first of its feed', async () => {
  const feed =
    await rows(`select conversation_id, message_id, body, content_type, is_from_me from whatsapp.message_feed
    where conversation_id in ('c8', 'c9') order by sent_at desc, message_id desc`);
  const last = await rows(`select conversation_id, last_message_id as message_id, last_message_body as body,
      last_message_type as content_type, last_message_is_from_me as is_from_me
    from whatsapp.conversation_list where conversation_id in ('c8', 'c9') order by conversation_id`);
  expect(last).toEqual(['c8', 'c9'].map((id) => feed.find((one) => one.conversation_id === id)));
});
