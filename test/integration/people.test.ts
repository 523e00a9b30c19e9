import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { CONNECTION } from '../support/pages.ts';
import { direct, E164, group, LID, message, PersonPages, PHONE } from './person-pages.ts';

const { database, page, rows } = PersonPages.use();
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
  const seen = () =>
    database.query<{ last_seen_at: Date }>(`select last_seen_at from whatsapp.jids where jid = '${LID}'`);
  const [first] = await seen();
  await page({ contacts: [{ ...all.contacts[0], display_name: 'A' }] });
  expect(await seen()).toEqual([first]);
  await database.query(`update whatsapp.jids set last_seen_at = now() - interval '25 hours'`);
  await page({ contacts: [{ ...all.contacts[0], display_name: 'B' }] });
  expect((await seen())[0]!.last_seen_at.getTime()).toBeGreaterThanOrEqual(first!.last_seen_at.getTime());
});
