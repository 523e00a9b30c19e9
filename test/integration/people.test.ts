import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { TABLES } from '../../src/store/schema.ts';
import { useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer, CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
let cursor = 0;
beforeEach(async () => {
  const tables = [...TABLES].filter((name) => !name.startsWith('kysely')).map((name) => `whatsapp.${name}`);
  await database.query(`truncate ${tables.join(', ')}`);
  cursor = 0;
});

/** A page of its own, with the next cursor. */
const page = (lists: Omit<Answer, 'cursor'>) => applyAnswer(database.db, { cursor: ++cursor, ...lists });
const rows = (sql: string) => database.query(sql);

const LID = '491701234567890@lid';
const PHONE = '4915112345678@s.whatsapp.net';
const E164 = '+4915112345678';
const message = (id: string, seq: number, fields: Record<string, unknown> = {}) => ({
  message_id: id,
  conversation_id: 'c1',
  chat_jid: LID,
  sender_jid: LID,
  sender_push_name: 'annie',
  is_from_me: false,
  sent_at: `2026-11-01T10:00:${String(seq).padStart(2, '0')}Z`,
  body: id,
  seq,
  ...fields,
});
const direct = (seq: number, fields: Record<string, unknown> = {}) => ({
  conversation_id: 'c1',
  chat_jid: LID,
  kind: 'direct',
  direct_person_id: 'p1',
  last_message_at: '2026-11-01T10:00:01Z',
  seq,
  ...fields,
});
const group = (seq: number, ...jids: (string | object)[]) => ({
  conversation_id: 'g1',
  chat_jid: '120363@g.us',
  kind: 'group',
  subject: 'Team',
  seq,
  participants: jids.map((jid) => (typeof jid === 'string' ? { participant_jid: jid } : jid)),
});
const jids = () => rows('select jid, person_id, phone_e164 from whatsapp.jids order by jid');

describe('people', () => {
  test('what is learned late of a LID mends old messages when they are read', async () => {
    await page({ conversations: [direct(1)], messages: [message('m1', 1)] });
    const feed = () =>
      rows(`select message_id, chat_title, sender_name, sender_e164, person_id, person_e164, person_key
        from whatsapp.message_feed order by sent_at`);
    // A LID's digits look like a number, and are none.
    expect(await feed()).toEqual([
      {
        message_id: 'm1',
        chat_title: LID,
        sender_name: 'annie',
        sender_e164: null,
        person_id: 'p1',
        person_e164: null,
        person_key: `${CONNECTION} p1`,
      },
    ]);
    const [before] = await rows('select xmin from whatsapp.messages');
    await page({
      contacts: [
        { person_id: 'p1', first_name: 'Anna', last_name: 'Ott', phone_jid: PHONE, lid_jid: LID },
        { person_id: 'p2', phone_e164: '+491701234567890', lid_jid: '491701234567890@lid2' },
        // An upstream that takes the digits of a LID for a number.
        { person_id: 'p3', phone_e164: '+99912345678901', lid_jid: '99912345678901@lid' },
      ],
    });
    const found = {
      chat_title: 'Anna Ott',
      sender_name: 'Anna Ott',
      sender_e164: E164,
      person_id: 'p1',
      person_e164: E164,
      person_key: E164,
    };
    expect(await feed()).toEqual([{ message_id: 'm1', ...found }]);
    expect(await rows('select xmin from whatsapp.messages')).toEqual([before]);
    expect((await jids()).filter(({ person_id }) => person_id === 'p3')).toEqual([
      { jid: '99912345678901@lid', person_id: 'p3', phone_e164: null },
    ]);
    // What we send to the other of the two JIDs is the same person's.
    await page({
      messages: [message('m2', 2, { chat_jid: PHONE, sender_jid: '1555@s.whatsapp.net', is_from_me: true })],
    });
    expect((await feed())[1]).toEqual({
      ...found,
      message_id: 'm2',
      sender_name: 'annie',
      sender_e164: null,
    });
    expect(await rows(`select * from whatsapp.people where phone_e164 = '${E164}'`)).toMatchObject([
      {
        person_key: E164,
        name: 'Anna Ott',
        connection_ids: [CONNECTION],
        jids: [PHONE, LID],
        messages_in: '1',
        messages_out: '1',
        first_contact_at: new Date('2026-11-01T10:00:01Z'),
        last_contact_at: new Date('2026-11-01T10:00:01Z'),
      },
    ]);
  });

  test('all JIDs of a person have its number, in whichever order they are told; the newer person counts', async () => {
    await page({ conversations: [group(1, { participant_jid: LID, person_id: 'p1' })] });
    expect(await jids()).toEqual([{ jid: LID, person_id: 'p1', phone_e164: null }]);
    await page({
      conversations: [
        group(2, { participant_jid: LID, person_id: 'p1' }, { participant_jid: PHONE, person_id: 'p1' }),
      ],
    });
    expect(await jids()).toEqual([
      { jid: PHONE, person_id: 'p1', phone_e164: E164 },
      { jid: LID, person_id: 'p1', phone_e164: E164 },
    ]);
    // A contact knows better than a JID; a number that changed is the person's from then on.
    await page({ contacts: [{ person_id: 'p1', phone_e164: '+5215512345678', lid_jid: LID }] });
    expect((await jids()).map(({ phone_e164 }) => phone_e164)).toEqual(Array(3).fill('+5215512345678'));
    // Another person's from now on: nothing of the number stays with it.
    await page({ contacts: [{ person_id: 'p9', lid_jid: LID }] });
    expect((await jids()).find(({ jid }) => jid === LID)).toEqual({
      jid: LID,
      person_id: 'p9',
      phone_e164: null,
    });
    // A membership that only repeats what it said before is no news, and one without a person takes none away.
    await page({
      conversations: [group(3, { participant_jid: LID, person_id: 'p1' }, PHONE, '31@lid')],
    });
    expect(await jids()).toMatchObject([
      { jid: '31@lid', person_id: null },
      { jid: PHONE, person_id: 'p1' },
      { jid: LID, person_id: 'p9' },
      { person_id: 'p1' },
    ]);
  });

  test('one row per person across connections, newest contact first', async () => {
    await page({
      contacts: [{ person_id: 'p1', display_name: 'Anna', phone_jid: PHONE }],
      conversations: [direct(1, { chat_jid: PHONE })],
      messages: [message('m1', 1, { sender_jid: PHONE, chat_jid: PHONE })],
    });
    await database.query(
      `insert into whatsapp.jids (connection_id, jid, person_id, phone_e164, last_message_at) values
        ('other', '${PHONE}', 'x1', '${E164}', '2026-11-02'), ('other', '77@lid', 'x2', null, null),
        ('other', '4930123456@s.whatsapp.net', null, '+4930123456', null)`,
    );
    await database.query(`insert into whatsapp.conversations (connection_id, conversation_id, chat_jid, kind)
      values ('other', 'o1', '${PHONE}', 'direct'), ('other', 'o2', '${PHONE}', 'group')`);
    await database.query(`insert into whatsapp.conversation_counts (connection_id, conversation_id, messages_in)
      values ('other', 'o1', 5), ('other', 'o2', 7)`);
    expect(
      await rows('select * from whatsapp.people order by last_contact_at desc nulls last'),
    ).toMatchObject([
      { person_key: E164, name: 'Anna', connection_ids: [CONNECTION, 'other'], messages_in: '6' },
      { person_key: 'other x2', phone_e164: null, name: null, messages_in: '0' },
    ]);
    expect(
      await rows(`select person_key, name from whatsapp.identities where jid = '${PHONE}' order by 2`),
    ).toEqual([
      { person_key: E164, name: 'Anna' },
      { person_key: E164, name: null },
    ]);
  });

  test('counts follow messages that turn out to belong elsewhere; lists show the last one', async () => {
    await page({
      conversations: [direct(1), group(1, LID)],
      messages: [message('m1', 1), message('m2', 2, { is_from_me: true }), { message_id: 'm3', seq: 9 }],
    });
    await page({ messages: [message('m3', 3), message('m1', 4, { conversation_id: 'g1' })] });
    await page({ messages: [message('m1', 5, { conversation_id: 'g1', status: 'read', sent_at: null })] });
    const lists =
      await rows(`select conversation_id, title, messages, messages_in, messages_out, participants,
      last_message_id, last_message_body, last_message_is_from_me from whatsapp.conversation_list order by 1`);
    expect(lists).toEqual([
      {
        conversation_id: 'c1',
        title: LID,
        messages: '2',
        messages_in: '1',
        messages_out: '1',
        participants: '0',
        last_message_id: 'm3',
        last_message_body: 'm3',
        last_message_is_from_me: false,
      },
      {
        conversation_id: 'g1',
        title: 'Team',
        messages: '1',
        messages_in: '1',
        messages_out: '0',
        participants: '1',
        // without a time it is not the last
        last_message_id: null,
        last_message_body: null,
        last_message_is_from_me: null,
      },
    ]);
    // The chat's time moves on with it, alone; one that is older does not.
    const time = () => rows('select last_message_at, person_id from whatsapp.jids');
    await page({ conversations: [direct(2, { last_message_at: '2026-11-03T00:00:00Z' })] });
    await page({ conversations: [direct(3, { last_message_at: '2026-11-02T00:00:00Z' })] });
    expect(await time()).toEqual([{ last_message_at: new Date('2026-11-03T00:00:00Z'), person_id: 'p1' }]);
    // One that only writes, and only once, is heard of.
    await page({
      messages: [message('m4', 6, { conversation_id: 'g1', sender_jid: '4930123456@s.whatsapp.net' })],
    });
    expect(await rows(`select phone_e164 from whatsapp.jids where person_id is null`)).toEqual([
      { phone_e164: '+4930123456' },
    ]);
  });
});

describe('reactions', () => {
  const reactions = () =>
    rows('select reactor_jid, emoji from whatsapp.message_reactions order by reactor_jid');
  const since = () => rows('select since from whatsapp.message_reactions order by reactor_jid');

  test('appear, change and disappear; one that stays keeps its time', async () => {
    const a = { emoji: '👍', timestamp_ns: 9007199254740993n };
    await page({ messages: [message('m1', 1, { reactions: { 'a@lid': a, 'b@lid': '🎉' } })] });
    expect(await reactions()).toEqual([
      { reactor_jid: 'a@lid', emoji: '👍' },
      { reactor_jid: 'b@lid', emoji: '🎉' },
    ]);
    const [first] = await since();
    await page({ messages: [message('m1', 2, { reactions: { 'a@lid': a, 'b@lid': { emoji: '👎' } } })] });
    const [same, later] = (await since()) as { since: Date }[];
    expect(same).toEqual(first);
    expect(later!.since.getTime()).toBeGreaterThan(same!.since.getTime());
    expect((await reactions())[1]).toEqual({ reactor_jid: 'b@lid', emoji: '👎' });
    // Taken back: an empty emoji. A partial record that says nothing of reactions leaves them.
    await page({ messages: [message('m1', 3, { reactions: { 'a@lid': a, 'b@lid': { emoji: '' } } })] });
    await page({ messages: [{ message_id: 'm1', seq: 4, status: 'read' }] });
    expect(await reactions()).toEqual([{ reactor_jid: 'a@lid', emoji: '👍' }]);
    await page({ messages: [message('m1', 5)] });
    expect(await reactions()).toEqual([]);
  });

  test('a shape that is not understood stays in the jsonb alone', async () => {
    const odd = {
      '👍': ['a@lid'],
      count: 3,
      'b@lid': 7,
      'c@lid': { emoji: 5 },
      'd@lid': { text: '👍' },
      'e@lid': null,
      [`${'f'.repeat(3_000)}@lid`]: '👍',
      'g@lid': 'x'.repeat(65),
    };
    const { tally } = await page({ messages: [message('m1', 1, { reactions: { ...odd, 'h@lid': '👍' } })] });
    expect(tally.message.inserted).toBe(1);
    expect(await reactions()).toEqual([{ reactor_jid: 'h@lid', emoji: '👍' }]);
    const [row] = await rows('select reactions from whatsapp.messages');
    expect(row!.reactions).toEqual({ ...odd, 'h@lid': '👍' });
  });
});

describe('membership', () => {
  const intervals = () =>
    rows(`select participant_jid as jid, left_at is null as open, joined_at <= coalesce(left_at, now()) as sound
      from whatsapp.conversation_memberships order by 1, joined_at`);
  const was = (jid: string, open: boolean) => ({ jid, open, sound: true });

  test('who leaves and comes back has two intervals', async () => {
    await page({ conversations: [group(1, 'a@lid', 'b@lid'), direct(1, { participants: [] })] });
    await page({ conversations: [group(2, { participant_jid: 'a@lid', role: 'admin' })] });
    expect(await intervals()).toEqual([was('a@lid', true), was('b@lid', false)]);
    await page({ conversations: [{ ...group(3), participants: null }] });
    await page({ conversations: [group(4, 'a@lid', 'b@lid', 'c@lid')] });
    expect(await intervals()).toEqual([
      was('a@lid', true),
      was('b@lid', false),
      was('b@lid', true),
      was('c@lid', true),
    ]);
    // An older list changes nothing. Out and in again within a page is no leave; all gone is.
    await page({ conversations: [group(3, 'z@lid')] });
    await page({
      conversations: [group(5, 'a@lid'), group(6, 'a@lid', 'c@lid'), group(7, 'a@lid', 'c@lid')],
    });
    await page({ conversations: [direct(2, { participants: [{ participant_jid: LID }] })] });
    await page({ conversations: [group(8)] });
    expect((await intervals()).filter(({ open }) => open)).toEqual([]);
    expect(await intervals()).toHaveLength(5);
  });
});

test('the queries of docs/crm.md are ones that Postgres runs', async () => {
  const document = readFileSync(path.join(import.meta.dirname, '../../docs/crm.md'), 'utf8');
  const all = [...document.matchAll(/```sql\n([\s\S]*?)```/g)].map((match) => match[1]!);
  // Not those that are for the CRM's own tables (link-recipes.test.ts), nor rights and indexes.
  const blocks = all.filter((block) => block.includes('whatsapp.') && !/^(create|grant) /.test(block));
  expect(blocks).toHaveLength(6);
  await rows('create table contacts (id integer)');
  for (const block of blocks) await rows(block);
  await rows('drop table contacts');
  // Each column of the views is described there.
  const columns = await rows(
    `select column_name as name from information_schema.columns where table_schema = 'whatsapp'
      and table_name in ('identities', 'message_feed', 'conversation_list', 'people')`,
  );
  for (const { name } of columns) expect(document).toContain(`\`${name}\``);
});

test('a replay writes nothing', async () => {
  const all = {
    contacts: [{ person_id: 'p1', phone_jid: PHONE, lid_jid: LID }],
    conversations: [direct(1), group(1, { participant_jid: LID, person_id: 'p1' }, 'b@lid')],
    messages: [message('m1', 1, { reactions: { 'a@lid': '👍' } }), message('m2', 2, { is_from_me: true })],
  };
  const tables = ['jids', 'conversation_counts', 'message_reactions', 'conversation_memberships'];
  const snapshot = async () => {
    const of = (table: string) =>
      rows(`select json_agg((t.xmin, t.ctid) order by t.ctid) as all from whatsapp.${table} t`);
    return await Promise.all(tables.map(of));
  };
  await page(all);
  const before = await snapshot();
  await page(all);
  await page({
    ...all,
    messages: all.messages.map((one) => ({ ...one, seq: one.seq + 10, status: 'read' })),
  });
  expect(await snapshot()).toEqual(before);
  // One day later a contact that changed is seen once more, and no sooner.
  const seen = () => rows(`select last_seen_at from whatsapp.jids where jid = '${LID}'`);
  const [first] = await seen();
  await page({ contacts: [{ ...all.contacts[0], display_name: 'A' }] });
  expect(await seen()).toEqual([first]);
  await database.query(`update whatsapp.jids set last_seen_at = now() - interval '25 hours'`);
  await page({ contacts: [{ ...all.contacts[0], display_name: 'B' }] });
  expect((await seen())[0]).not.toEqual(first);
});
