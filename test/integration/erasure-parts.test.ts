/** Forgetting (R20): what several records tell of one person or one message, in whichever order they come. */
import { expect, test } from 'vitest';
import { erase } from '../../src/sync/erase.ts';
import { dump, traces } from '../support/dump.ts';
import { applyAnswer } from '../support/pages.ts';
import {
  BOB,
  bring,
  conversations,
  database,
  db,
  direct,
  EVE,
  FORGETTING,
  HERS,
  ids,
  LID,
  ME,
  message,
  messageIds,
  ofEve,
  order,
  page,
  soon,
  useDatabase,
  world,
} from './erasure-world.ts';

useDatabase();

const stranger = '900000000000077@lid';
const other = '900000000000078@lid';
const hers = async () => traces(await dump(database), [...HERS, '900000000000077', '900000000000078']);
const stored = async () =>
  (await database.query<{ n: string }>('select stored_messages as n from whatsapp.sync_state'))[0]!.n;

test('a LID, and a chat, that another record of the same page tells whose they are', async () => {
  await bring(world());
  await erase(db, order({ forever: true }));
  await bring(
    page({
      // The group knows her by the id that the contact tells; another contact is hers by what the group tells.
      contacts: [
        { person_id: 'per_again', phone_jid: EVE.phone },
        { person_id: 'per_other', lid_jid: other },
      ],
      conversations: [
        { ...conversations()[0]!, conversation_id: 'cnv_again' },
        {
          ...conversations()[2]!,
          participants: [
            { participant_jid: stranger, person_id: 'per_again' },
            { participant_jid: EVE.phone, person_id: 'per_other' },
          ],
        },
      ],
      messages: [
        message('m_lid_told', { ...ofEve, sender_jid: stranger, sent_at: soon() }),
        message('m_other_told', { ...ofEve, sender_jid: other, sent_at: soon() }),
        {
          message_id: 'm_chat_told',
          conversation_id: 'cnv_again',
          body: 'HERWORD',
          sent_at: soon(),
          seq: 900,
        },
        // Of what never comes, not even a part without a date is an open question.
        { message_id: 'm_part', sender_jid: EVE.phone, seq: 901 },
      ],
    }),
  );
  await bring(page({ messages: [{ message_id: 'm_part', body: 'HERWORD', seq: 902 }] }));
  expect(await hers()).toEqual([]);
});

test('what is stored already goes by another erasure, not by coming again', async () => {
  const old = message('m_old', { ...ofEve, sender_jid: stranger });
  await bring(page({ contacts: [{ person_id: EVE.id, phone_jid: EVE.phone }], messages: [old] }));
  await erase(db, order());
  const told = { person_id: EVE.id, phone_jid: EVE.phone, lid_jid: stranger };
  expect(await bring(page({ contacts: [told], messages: [old] }))).toBe(2);
  expect(await messageIds()).toEqual(['m_old']);
});

test('an attachment that a part tells of is not fetched any more', async () => {
  await bring(world());
  await erase(db, order());
  const told = (more: object) =>
    applyAnswer(db, page({ messages: [more] })[0]!, { forgetting: FORGETTING, media: true });
  await told({ message_id: 'm_unseen', content_type: 'image', media: { mime_type: 'image/png' }, seq: 900 });
  expect(await ids('media', 'message_id')).toEqual(['m_unseen']);
  await told(message('m_unseen', { ...ofEve, seq: 800 }));
  expect(await ids('media', 'message_id')).toEqual([]);
});

test.each<[what: string, id: string]>([
  ['an id', 'm_unseen'],
  ['an id as WhatsApp makes them', '3EB0_unseen_120363000000000001@G.us_3EB0AB'],
])('an edit that names nobody comes with, before or after a message that is refused: %s', async (_, id) => {
  await bring(world());
  await erase(db, order());
  const edit = (of: string, seq: number) => ({ message_id: of, body: 'HERWORD late', seq });
  const before = await stored();
  await bring(
    page({ messages: [edit(`${id}1`, 900), edit(`${id}2`, 901), { ...edit(`${id}1`, 902), body: 7 }] }),
  );
  expect(await hers()).not.toEqual([]);
  await bring(
    page({
      messages: [1, 2, 3].flatMap((n) => [
        edit(`${id}${n}`, 910 + n),
        message(`${id}${n}`, { ...ofEve, sender_jid: EVE.lid, seq: 800 + n }),
      ]),
    }),
  );
  await bring(page({ messages: [edit(`${id}1`, 920), edit(`${id}3`, 921)] }));
  expect(await hers()).toEqual([]);
  expect(await stored()).toBe(before);
  const deleted = await database.query<{ id: string }>(
    `select record_id as id from whatsapp.changes where op = 'deleted' and record_id like $1 order by 1`,
    [`${id}%`],
  );
  expect(deleted).toEqual([{ id: `${id}1` }, { id: `${id}2` }]);
});

test('what is sent after it is not lost by a part without a date, which comes before it or with it', async () => {
  await bring(world());
  await erase(db, order());
  const part = (id: string, seq: number) => ({ message_id: id, sender_jid: EVE.phone, status: 'read', seq });
  const whole = (id: string, seq: number) => message(id, { ...direct, ...ofEve, sent_at: soon(), seq });
  await bring(page({ messages: [part('m_first', 2_000)] }));
  expect(await messageIds()).not.toContain('m_first');
  await bring(page({ messages: [whole('m_first', 1_999), part('m_with', 2_002), whole('m_with', 2_001)] }));
  expect(
    await database.query(
      `select message_id as id, status from whatsapp.messages where message_id like 'm\\_%t%h' or message_id = 'm_first'
        order by 1`,
    ),
  ).toEqual([
    { id: 'm_first', status: null },
    { id: 'm_with', status: 'read' },
  ]);
});

test('a reaction that a part of a message tells comes where the message is from after it', async () => {
  const ahead = soon();
  const thumb = { reactions: { [EVE.phone]: { emoji: '👍' }, [BOB.phone]: { emoji: '🎉' } } };
  await bring([...world(), ...page({ messages: [message('m_ahead', { sent_at: ahead, ...thumb })] })]);
  await erase(db, order());
  await bring(page({ messages: [message('m_new', { sent_at: soon() })] }));
  await bring(
    page({
      messages: [
        // What was there does not pass for later by coming along either.
        message('m_ahead', { sent_at: ahead, seq: 1_999 }),
        ...['m_ahead', 'm_bob', 'm_new'].map((id, at) => ({ message_id: id, ...thumb, seq: 2_000 + at })),
      ],
    }),
  );
  expect(
    await database.query(
      'select message_id as id from whatsapp.message_reactions where reactor_jid = $1 order by 1',
      [EVE.phone],
    ),
  ).toEqual([{ id: 'm_new' }]);
});

test('a member of a chat that tells neither its kind nor its JID, or that is somebody else’s', async () => {
  const members = [
    { participant_jid: EVE.phone },
    { participant_jid: `${LID}@lid` },
    { participant_jid: BOB.phone },
  ];
  const chats = [
    { conversation_id: 'cnv_odd', participants: members, seq: 900 },
    { ...conversations()[1]!, participants: members, seq: 901 },
  ];
  await bring([...world(), ...page({ conversations: chats })]);
  await erase(db, order());
  await bring(page({ conversations: chats }));
  expect(await hers()).toEqual([]);
});

test('members that cannot be stored of a chat that is refused are not put aside under its id', async () => {
  const chat = (at: string) => ({
    ...conversations(at)[0]!,
    conversation_id: EVE.phone,
    participants: [{ participant_jid: ME, role: 7 }],
  });
  await bring(world());
  await erase(db, order());
  await bring(page({ conversations: [chat(soon(-60))] }));
  expect(await hers()).toEqual([]);
  await bring(page({ conversations: [chat(soon(-60)), chat(soon())] }));
  expect(
    await database.query(`select conversation_id as id from whatsapp.quarantine where record_id = $1`, [ME]),
  ).toEqual([{ id: EVE.phone }]);
});

test('what adds to a message that is older than RETAIN_MESSAGES, and comes with it, is not kept either', async () => {
  const forgetting = { key: undefined, retain: 3_600_000 };
  const messages = [
    message('m_old', { sent_at: soon(-120) }),
    { message_id: 'm_old', body: 'an edit', seq: 2_000 },
    message('m_new', { sent_at: soon(-1) }),
    { message_id: 'm_new', body: 'an edit', seq: 2_001 },
  ];
  const { suppressed } = await applyAnswer(db, { cursor: 1, messages }, { forgetting });
  expect(suppressed).toEqual({ erased: 0, expired: 2 });
  expect(await messageIds()).toEqual(['m_new']);
});
