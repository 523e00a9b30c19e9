/** Two people, a group, and what cannot be stored: for the tests of forgetting (R20). */
import type { Kysely } from 'kysely';
import { afterEach, beforeEach } from 'vitest';
import { ErasureKey } from '../../src/lib/erasure-key.ts';
import type { Database } from '../../src/store/schema.ts';
import { startEpoch } from '../../src/store/state.ts';
import type { EraseOrder } from '../../src/sync/erase-order.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer, CONNECTION } from '../support/pages.ts';

export const KEY = new ErasureKey('a key of the tests that nobody guesses');
export const FORGETTING = { key: KEY, retain: undefined };
export const OTHER = 'conn_other';
export let database: TestDatabase;
export let db: Kysely<Database>;

export function useDatabase(): void {
  beforeEach(async () => {
    database = await createTestDatabase({ migrated: true });
    db = database.db;
  });
  afterEach(() => database.drop());
}

/** Whom it is about. */
export const PHONE = '4915100000001';
export const LID = '900000000000001';
export const EVE = { phone: `${PHONE}@s.whatsapp.net`, lid: `${LID}@lid`, id: 'per_eve' };
export const BOB = { phone: '4915100000002@s.whatsapp.net', lid: '900000000000002@lid', id: 'per_bob' };
export const GROUP = '120363000000000001@g.us';
export const ME = '4915199999999@s.whatsapp.net';

/** What must be found nowhere: whoever says it. */
export const HERS = [PHONE, LID, EVE.id, 'Evelyn', 'Evchen', 'HERWORD', 'TOHER'];

const DAY = 86_400_000;
const TODAY = Date.now() - (Date.now() % DAY);
/** Days of a time that is long ago, but that RETAIN_MESSAGES of these tests does not reach. */
export const long = (day: number) => new Date(TODAY + (day - 50) * DAY).toISOString();
let seq = 0;
export const message = (id: string, more: object) => ({
  message_id: id,
  wa_message_id: `WA_${id}`,
  conversation_id: 'cnv_group',
  chat_jid: GROUP,
  sender_jid: BOB.phone,
  sender_push_name: 'Bob',
  direction: 'incoming',
  is_from_me: false,
  content_type: 'text',
  body: 'a word of Bob',
  sent_at: long(1),
  seq: ++seq,
  ...more,
});
export const ofEve = { sender_jid: EVE.phone, sender_push_name: 'Evchen', body: 'HERWORD' };
export const direct = { conversation_id: 'cnv_eve', chat_jid: EVE.phone };

export const contacts = () => [
  {
    person_id: EVE.id,
    display_name: 'Evelyn',
    phone_e164: `+${PHONE}`,
    phone_jid: EVE.phone,
    lid_jid: EVE.lid,
  },
  {
    person_id: BOB.id,
    display_name: 'Bob',
    phone_e164: '+4915100000002',
    phone_jid: BOB.phone,
    lid_jid: BOB.lid,
  },
];
export const conversations = (at = long(3)) => [
  {
    conversation_id: 'cnv_eve',
    chat_jid: EVE.phone,
    kind: 'direct',
    subject: 'Evelyn',
    direct_person_id: EVE.id,
    last_message_at: at,
    participants: [
      { participant_jid: ME, role: 'member' },
      { participant_jid: EVE.phone, person_id: EVE.id, role: 'member' },
    ],
    seq: ++seq,
  },
  {
    conversation_id: 'cnv_bob',
    chat_jid: BOB.phone,
    kind: 'direct',
    direct_person_id: BOB.id,
    last_message_at: long(3),
    participants: [{ participant_jid: BOB.phone, person_id: BOB.id, role: 'member' }],
    seq: ++seq,
  },
  {
    conversation_id: 'cnv_group',
    chat_jid: GROUP,
    kind: 'group',
    subject: 'All of us',
    owner_jid: EVE.phone,
    last_message_at: long(3),
    participants: [
      { participant_jid: EVE.lid, person_id: EVE.id, role: 'admin', nickname: 'Evchen' },
      { participant_jid: BOB.phone, person_id: BOB.id, role: 'member' },
    ],
    seq: ++seq,
  },
];

/** A world of a few pages, and the same again as often as wanted: what an upstream serves at a resync. */
export function world(): Answer[] {
  seq = 0;
  return [
    { cursor: 10, has_more: true, contacts: contacts(), conversations: conversations() },
    {
      cursor: 40,
      has_more: true,
      messages: [
        message('m_in', { ...direct, ...ofEve }),
        message('m_out', {
          ...direct,
          sender_jid: ME,
          direction: 'outgoing',
          is_from_me: true,
          body: 'TOHER',
        }),
        message('m_group', { ...ofEve, media: { file_name: 'HERWORD.jpg' }, sender_person_id: EVE.id }),
        message('m_lid', {
          ...ofEve,
          sender_jid: EVE.lid,
          reply_to_wa_id: 'WA_m_bob',
          reactions: { [BOB.phone]: { emoji: '🙏' } },
        }),
        message('m_bob', {
          reactions: {
            [EVE.lid]: { emoji: '👍', name: 'Evchen' },
            [BOB.phone]: { emoji: '🎉', n: 12345678901234567890n },
          },
          mentioned_jids: [EVE.phone, BOB.phone],
          reply_to_wa_id: 'WA_m_group',
        }),
        message('m_plain', { conversation_id: 'cnv_bob', chat_jid: BOB.phone }),
      ],
    },
    // An edit of hers; and what cannot be stored: hers, one that mentions her, one of Bob.
    {
      cursor: 60,
      messages: [
        message('m_in', { ...direct, ...ofEve, body: 'HERWORD again', edited_at: long(2) }),
        message('m_bad', { ...direct, ...ofEve, sent_at: 'never' }),
        message('m_bad_bob', { body: 7, reactions: { [EVE.phone]: '👍' } }),
        message('m_bad_plain', { body: 7 }),
      ],
      conversations: [
        {
          conversation_id: 'cnv_bad',
          kind: 7,
          participants: [{ participant_jid: EVE.phone, name: 'Evelyn' }, { participant_jid: BOB.phone }],
          seq: ++seq,
        },
        {
          ...conversations()[2],
          participants: [
            ...conversations()[2]!.participants,
            { participant_jid: EVE.phone, person_id: 7, name: 'Evelyn' },
          ],
          seq: ++seq,
        },
      ],
    },
  ];
}

export async function bring(answers: readonly Answer[], connection = CONNECTION, forgetting = FORGETTING) {
  let erased = 0;
  for (const answer of answers)
    erased += (await applyAnswer(db, answer, { forgetting }, connection)).suppressed.erased;
  return erased;
}

/** All pages from cursor 0 once more. */
export async function replay(answers: readonly Answer[], connection = CONNECTION) {
  await db.transaction().execute((trx) => startEpoch(trx, connection, 'resync', false));
  return await bring(answers, connection);
}

export const order = (more: Partial<EraseOrder> = {}): EraseOrder => ({
  who: { jid: EVE.phone },
  ...{ connectionId: undefined, forever: false, key: KEY, changes: true, schema: 'whatsapp' },
  ...more,
});

/** An instant so many minutes from now. */
export const soon = (minutes = 60) => new Date(Date.now() + minutes * 60_000).toISOString();

let cursor = 1_000;
/** A page at a cursor far beyond the world's. */
export const page = (more: Omit<Answer, 'cursor'>): Answer[] => [{ cursor: ++cursor, ...more }];

export const ids = async (table: string, key: string) =>
  (await database.query<{ id: string }>(`select ${key} as id from whatsapp.${table} order by 1`)).map(
    (row) => row.id,
  );
export const messageIds = () => ids('messages', 'message_id');
