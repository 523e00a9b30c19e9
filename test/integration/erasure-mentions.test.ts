/** Erasure (R20) where others' records name the person: in fields of an open shape, in ids that are made of JIDs. */
import { expect, test } from 'vitest';
import { erase, foresee } from '../../src/sync/erase.ts';
import { dump, traces } from '../support/dump.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';
import {
  BOB,
  bring,
  contacts,
  conversations,
  database,
  db,
  EVE,
  GROUP,
  HERS,
  ids,
  long,
  message,
  ofEve,
  order,
  PHONE,
  page,
  replay,
  soon,
  useDatabase,
  world,
} from './erasure-world.ts';

useDatabase();

/** As WhatsApp writes ids of messages: from whom, where, and in a group by whom. */
const IN_GROUP = `false_${GROUP}_3EB0_${EVE.phone}`;
const IN_CHAT = `false_${EVE.phone}_3EB0`;

const told = async () =>
  await database.query(
    `select kind, record_id, op, changed_fields from whatsapp.changes where change_no > $1 order by change_no`,
    [before],
  );
let before = '0';
const mark = async () => {
  const [row] = await database.query<{ no: string }>('select last_change_no as no from whatsapp.sync_state');
  before = row!.no;
};

test('what the tables do not know of others: their contacts, and members of their chats', async () => {
  const [, bob] = contacts();
  const [, ofBob, group] = conversations();
  const asMember = { participant_jid: BOB.phone, person_id: BOB.id, role: 'member' };
  const pages = () => [
    {
      cursor: 70,
      contacts: [{ ...bob, introduced_by: EVE.phone, met_in: 'Bonn' }],
      conversations: [
        { ...ofBob, participants: [{ ...asMember, sponsor_person_id: EVE.id }], seq: 68 },
        {
          ...group,
          participants: [group!.participants[0]!, { ...asMember, invited_by: EVE.lid, n: 1 }],
          seq: 69,
        },
      ],
    },
  ];
  await bring([...world(), ...pages()]);
  await mark();
  const { counts } = await foresee(db, order());
  expect(await erase(db, order())).toMatchObject({ counts });
  expect(traces(await dump(database), HERS)).toEqual([]);
  const extras = () =>
    database.query(
      `select extra::text from whatsapp.contacts where person_id = $1
        union all (select p.extra::text from whatsapp.conversation_participants p
          where participant_jid = $2 and conversation_id <> 'cnv_eve' order by conversation_id)`,
      [BOB.id, BOB.phone],
    );
  const left = [{ extra: '{"met_in": "Bonn"}' }, { extra: '{}' }, { extra: '{"n": 1}' }];
  expect(await extras()).toEqual(left);
  const updates = (await told()).filter((one) => (one as { op: string }).op === 'updated');
  expect(updates).toEqual(
    expect.arrayContaining([
      { kind: 'contact', record_id: BOB.id, op: 'updated', changed_fields: ['extra'] },
      { kind: 'conversation', record_id: 'cnv_bob', op: 'updated', changed_fields: ['participants'] },
      { kind: 'conversation', record_id: 'cnv_group', op: 'updated', changed_fields: ['participants'] },
    ]),
  );
  await replay([...world(), ...pages()]);
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(await extras()).toEqual(left);
});

test('ids that are made of JIDs: of messages in groups and what answers them, and the counts of the group', async () => {
  const page = () => ({
    cursor: 70,
    messages: [
      message('m_named', { ...ofEve, wa_message_id: IN_GROUP, reactions: { [BOB.phone]: '👍' } }),
      message('m_answer', { reply_to_wa_id: IN_GROUP, quoted: { id: IN_GROUP, type: 'text' } }),
      message('m_thread', { reply_to_wa_id: IN_GROUP }),
      message('m_other', { reply_to_wa_id: `false_${GROUP}_3EB0_${BOB.phone}` }),
    ],
  });
  await bring([...world(), page()]);
  await database.query(
    `insert into whatsapp.verifications (connection_id, state, position) values ($1, 'interrupted', $2)`,
    [CONNECTION, { stage: 'messages', conversation: 'cnv_group', before: 'm_named' }],
  );
  await mark();
  await erase(db, order());
  const check = async () => {
    expect(traces(await dump(database), HERS)).toEqual([]);
    expect(
      await database.query(
        `select message_id, reply_to_wa_id is null as gone from whatsapp.messages
          where message_id in ('m_named', 'm_answer', 'm_other') order by 1`,
      ),
    ).toEqual([
      { message_id: 'm_answer', gone: true },
      { message_id: 'm_other', gone: false },
    ]);
    expect(
      await database.query(
        `select n.conversation_id from whatsapp.conversation_counts n where messages_in + messages_out
          <> (select count(*) from whatsapp.messages m where m.conversation_id = n.conversation_id)`,
      ),
    ).toEqual([]);
  };
  await check();
  expect(await told()).toContainEqual({
    ...{ kind: 'message', record_id: 'm_answer', op: 'updated', changed_fields: ['extra'] },
  });
  expect(await database.query('select position from whatsapp.verifications')).toEqual([{ position: null }]);
  await replay([...world(), page()]);
  await check();
});

test('the feed names neither a chat nor a message whose id says whose it is, nor what belongs to it', async () => {
  await bring([
    ...world(),
    {
      cursor: 70,
      conversations: [
        {
          conversation_id: EVE.phone,
          chat_jid: EVE.phone,
          kind: 'direct',
          last_message_at: long(3),
          participants: [{ participant_jid: EVE.phone }, { participant_jid: BOB.phone }],
          seq: 69,
        },
        // By an id alone.
        { ...conversations()[2], participants: [{ participant_jid: 'HERWORD', person_id: EVE.id }] },
      ],
      messages: [
        message(IN_CHAT, {
          conversation_id: EVE.phone,
          chat_jid: EVE.phone,
          reactions: { [BOB.phone]: '👍' },
        }),
      ],
    },
  ]);
  await erase(db, order());
  expect(traces(await dump(database), HERS)).toEqual([]);
  const [feed] = await database.query(
    `select count(*) = max(change_no) as whole, count(*) filter (where record_id is null and op <> 'deleted' or record_id = '') as odd
      from whatsapp.changes`,
  );
  expect(feed).toEqual({ whole: true, odd: '0' });
});

test('numbers as people write them', async () => {
  const number = `+${PHONE.slice(0, 2)} (${PHONE.slice(2, 5)}) ${PHONE.slice(5, 9)}-${PHONE.slice(9)}`;
  const [, bob] = contacts();
  await bring([
    ...world(),
    {
      cursor: 70,
      contacts: [
        { ...bob, partner: number },
        { person_id: 'per_only', display_name: 'HERWORD', phone_e164: number },
        { person_id: 'per_dots', display_name: 'HERWORD', phone_e164: number.replace(/[ ()-]+/g, '.') },
        { person_id: 'per_bad', display_name: 7, phone_e164: number },
      ],
      messages: [message('m_quoting', { quoted_number: number })],
    },
  ]);
  await erase(db, order());
  expect(traces(await dump(database), [number, ...HERS])).toEqual([]);
});

test('a LID that has the digits of a number is somebody else’s, although the contact has them as its number', async () => {
  const other = { person_id: 'per_lid', phone_e164: `+${PHONE}`, lid_jid: `${PHONE}@lid` };
  await bring([...world(), { cursor: 70, contacts: [other] }]);
  await erase(db, order());
  expect(await ids('contacts', 'person_id')).toEqual([BOB.id, 'per_lid']);
});

test('JIDs in other forms than the one that the person is known by', async () => {
  await bring([
    ...world(),
    {
      cursor: 70,
      messages: [
        message('m_old_form', { ...ofEve, sender_jid: `${PHONE}@c.us` }),
        message('m_large', { ...ofEve, sender_jid: `${PHONE}:7@S.WHATSAPP.NET` }),
      ],
    },
  ]);
  await erase(db, order());
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('an id of the person that JSON writes otherwise, in what the tables do not know and in what cannot be stored', async () => {
  const id = 'per_"ж\u{1f600}\\eve';
  const [eve, bob] = contacts();
  const escaped = '"per_\\"\\u0436\\ud83d\\ude00\\\\eve"';
  expect(JSON.parse(escaped)).toBe(id);
  const body = (records: string) =>
    Buffer.from(`{"cursor": 71, "has_more": false, "contacts": [${records}]}`);
  await bring([
    {
      cursor: 70,
      contacts: [
        { ...eve, person_id: id },
        { ...bob, met_person_id: id, n: 1 },
      ],
    },
  ]);
  await applyAnswer(db, body(`{"person_id": "per_bad", "display_name": 7, "met_person_id": ${escaped}}`));
  await erase(db, order());
  expect(await database.query('select person_id, extra from whatsapp.contacts')).toEqual([
    { person_id: BOB.id, extra: { n: 1 } },
  ]);
  expect(await database.query('select record_json::jsonb as json from whatsapp.quarantine')).toEqual([
    { json: { person_id: 'per_bad', display_name: 7 } },
  ]);
});

test('in a group whose last message is from after it, and in what is no object', async () => {
  await bring(world());
  await erase(db, order());
  const letters = () => ids('quarantine', 'quarantine_id');
  const before = await letters();
  const group = { ...conversations()[2], last_message_at: soon(), seq: 9_000, participants: undefined };
  await bring(page({ conversations: [group], messages: [EVE.phone] }));
  expect(traces(await dump(database), HERS)).toEqual([]);
  expect(
    await database.query(`select seq from whatsapp.conversations where conversation_id = 'cnv_group'`),
  ).toEqual([{ seq: '9000' }]);
  expect(await letters()).toEqual(before);
});
