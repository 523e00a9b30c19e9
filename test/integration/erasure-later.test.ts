/** Erasure (R20): what is from after it, what comes late, and what only hashes recognize. */
import { describe, expect, test } from 'vitest';
import { erase } from '../../src/sync/erase.ts';
import { dump, traces } from '../support/dump.ts';
import {
  BOB,
  bring,
  contacts,
  conversations,
  database,
  db,
  direct,
  EVE,
  HERS,
  ids,
  LID,
  message,
  messageIds,
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

describe('what is from after it', () => {
  test('replicates, and brings contact and membership back with it', async () => {
    await bring(world());
    await erase(db, order());
    await bring(page({ contacts: contacts() }));
    expect(await ids('contacts', 'person_id')).toEqual([BOB.id]);
    await bring(page({ messages: [message('m_new', { ...direct, ...ofEve, sent_at: soon() })] }));
    expect(await messageIds()).toContain('m_new');
    // Contacts and members have no date: they come again with the person.
    await bring(page({ contacts: contacts(), conversations: conversations(soon()) }));
    expect(await ids('contacts', 'person_id')).toEqual([BOB.id, EVE.id]);
    expect(await ids('conversations', 'conversation_id')).toContain('cnv_eve');
    expect(await ids('conversation_participants', 'participant_jid')).toContain(EVE.lid);
    // But not what was before.
    await replay(world());
    expect(await messageIds()).toEqual(['m_bob', 'm_group', 'm_lid', 'm_new', 'm_plain']);
    expect(
      await database.query(`select body from whatsapp.messages where message_id in ('m_group', 'm_lid')`),
    ).toEqual([{ body: null }, { body: null }]);
    expect(
      await database.query(`select reactor_jid from whatsapp.message_reactions where message_id = 'm_bob'`),
    ).toEqual([{ reactor_jid: BOB.phone }]);
  });

  test('with her contact in the same page, both come', async () => {
    await bring(world());
    await erase(db, order());
    const messages = [message('m_new', { ...direct, ...ofEve, sent_at: soon() })];
    await bring(page({ messages, contacts: contacts(), conversations: conversations(soon()) }));
    expect(await ids('contacts', 'person_id')).toEqual([BOB.id, EVE.id]);
  });

  test('a chat whose last message is later comes whole, before the message does', async () => {
    await bring(world());
    await erase(db, order());
    await bring(page({ conversations: conversations(soon()) }));
    expect(await ids('conversations', 'conversation_id')).toEqual(['cnv_bob', 'cnv_eve', 'cnv_group']);
    expect(
      await database.query(
        `select 1 from whatsapp.conversation_participants where conversation_id = 'cnv_eve'`,
      ),
    ).toHaveLength(2);
    expect(
      await database.query(
        `select 1 from whatsapp.conversation_participants where conversation_id = 'cnv_group'`,
      ),
    ).toHaveLength(1);
  });

  test('is what is dated after it by a millisecond, and nothing that is dated up to it', async () => {
    await bring(world());
    const { erasedAt } = await erase(db, order());
    const at = (ms: number) => new Date(Math.floor(erasedAt.getTime()) + ms).toISOString();
    const hers = (id: string, ms: number) => message(id, { ...direct, ...ofEve, sent_at: at(ms) });
    const contactsBeside = async (one: object) => {
      await bring(page({ messages: [one] }));
      await bring(page({ contacts: contacts() }));
      return await ids('contacts', 'person_id');
    };
    expect(await contactsBeside(hers('m_then', 0))).toEqual([BOB.id]);
    expect(await messageIds()).not.toContain('m_then');
    expect(await contactsBeside(hers('m_next', 1))).toEqual([BOB.id, EVE.id]);
    expect(await messageIds()).toContain('m_next');
  });

  test('of two who were erased is a sign of life of neither, unless it may come for both', async () => {
    await bring(world());
    await erase(db, order());
    await database.query(`update whatsapp.suppressions set erased_at = erased_at - interval '2 hours'`);
    await erase(db, order({ who: { jid: BOB.phone }, forever: true }));
    const ofBoth = (id: string, at: string) =>
      message(id, { sender_jid: BOB.phone, author_jid: EVE.phone, sent_at: at });
    await bring(page({ messages: [ofBoth('m_between', soon(-60)), ofBoth('m_after', soon())] }));
    await bring(page({ contacts: contacts() }));
    expect(await ids('contacts', 'person_id')).toEqual([]);
    await bring(page({ messages: [message('m_new', { ...ofEve, sent_at: soon(-60) })] }));
    await bring(page({ contacts: contacts() }));
    expect(await ids('contacts', 'person_id')).toEqual([EVE.id]);
    expect(await messageIds()).not.toContain('m_between');
  });

  test('of two who were erased nothing without a date is kept that is stored as later than one alone', async () => {
    await bring(world());
    await erase(db, order());
    await database.query(`update whatsapp.suppressions set erased_at = erased_at - interval '2 hours'`);
    await erase(db, order({ who: { jid: BOB.phone } }));
    await bring(page({ messages: [message('m_new', { ...direct, ...ofEve, sent_at: soon(-60) })] }));
    expect(await messageIds()).toContain('m_new');
    const ofBoth = { message_id: 'm_new', sender_jid: BOB.phone, author_jid: EVE.phone };
    await bring(page({ messages: [{ ...ofBoth, status: 'read', seq: 2_000 }] }));
    const read = `select message_id from whatsapp.messages where status = 'read'`;
    expect(await database.query(read)).toEqual([]);
  });

  test('is no mention in a group that goes on without her, until she is back', async () => {
    await bring(world());
    await erase(db, order());
    const owner = async () => {
      await bring(page({ conversations: [{ ...conversations()[2], last_message_at: soon() }] }));
      const [group] = await database.query<{ owner: string | null }>(
        `select extra ->> 'owner_jid' as owner from whatsapp.conversations where conversation_id = 'cnv_group'`,
      );
      return group!.owner;
    };
    expect(await owner()).toBeNull();
    await bring(page({ messages: [message('m_new', { ...ofEve, sent_at: soon() })] }));
    expect(await owner()).toBe(EVE.phone);
  });

  test('stays out with --forever, on connections of later too', async () => {
    await bring(world());
    await erase(db, order({ forever: true }));
    const pages = page({
      messages: [
        message('m_new', { ...direct, ...ofEve, sent_at: soon() }),
        message('m_new_group', { ...ofEve, sender_jid: EVE.lid, sent_at: soon() }),
        message('m_new_bob', { sent_at: soon(), reactions: { [EVE.phone]: '👍', [BOB.phone]: '👍' } }),
      ],
      contacts: contacts(),
      conversations: conversations(soon()),
    });
    await bring(pages);
    await bring([...world(), ...page({ ...pages[0]! })], 'conn_later');
    expect(traces(await dump(database), HERS)).toEqual([]);
    expect(await messageIds()).toContain('m_new_bob');
  });
});

describe('what comes late', () => {
  test('a record from before it that was never seen here', async () => {
    await bring(world());
    await erase(db, order());
    await bring(page({ messages: [message('m_unseen', { ...ofEve, sender_jid: EVE.lid })] }));
    expect(await messageIds()).not.toContain('m_unseen');
    // What adds to it later names nobody.
    await bring(page({ messages: [{ message_id: 'm_unseen', body: 'HERWORD late', seq: 900 }] }));
    expect(await messageIds()).not.toContain('m_unseen');
  });

  test('an edit of a removed message that tells nothing but its text', async () => {
    await bring(world());
    await erase(db, order());
    await bring(
      page({
        messages: [
          { message_id: 'm_in', body: 'HERWORD edited', seq: 900 },
          { message_id: 'm_group', body: 'HERWORD edited', seq: 901 },
        ],
      }),
    );
    expect(traces(await dump(database), HERS)).toEqual([]);
  });

  test('a receipt without a date of a message from after it is kept, one of an unknown message is not', async () => {
    await bring(world());
    await erase(db, order());
    await bring(page({ messages: [message('m_new', { ...direct, ...ofEve, sent_at: soon() })] }));
    const receipt = (id: string) => ({ message_id: id, sender_jid: EVE.phone, status: 'read', seq: 2_000 });
    // What is stored of somebody else is none of hers, and is from before it.
    await bring(page({ messages: [receipt('m_new'), receipt('m_unknown'), receipt('m_bob')] }));
    expect(await database.query(`select message_id from whatsapp.messages where status = 'read'`)).toEqual([
      { message_id: 'm_new' },
    ]);
  });

  test('a LID that nobody knew at the time, once a contact tells whose it is', async () => {
    const stranger = '900000000000077@lid';
    await bring(
      page({
        contacts: [{ person_id: EVE.id, phone_jid: EVE.phone }],
        messages: [message('m_old', { ...ofEve, sender_jid: stranger })],
      }),
    );
    await erase(db, order());
    expect(traces(await dump(database), ['900000000000077']).length).toBeGreaterThan(0);
    await bring(page({ contacts: [{ person_id: EVE.id, phone_jid: EVE.phone, lid_jid: stranger }] }));
    await bring(page({ messages: [message('m_older', { ...ofEve, sender_jid: stranger })] }));
    expect(await messageIds()).toEqual(['m_old']);
    // Erased once more, by the number alone, it finds what the hash of the LID recognizes.
    await erase(db, order());
    expect(traces(await dump(database), [...HERS, '900000000000077'])).toEqual([]);
  });

  test('the same people in other forms of their JIDs', async () => {
    await bring(world());
    await erase(db, order());
    const forms = [`${PHONE}:12@s.whatsapp.net`, `${PHONE}@c.us`, `${LID}:3@lid`, `${PHONE}@S.WhatsApp.net`];
    await bring(
      page({ messages: forms.map((jid, at) => message(`m_form${at}`, { ...ofEve, sender_jid: jid })) }),
    );
    await bring(
      page({ contacts: [{ person_id: 'per_new', phone_e164: '+49 151 0000-0001', display_name: 'Evelyn' }] }),
    );
    expect(traces(await dump(database), HERS)).toEqual([]);
  });
});

test('what was there at the erasure is from before it, although a clock that was ahead dated it later', async () => {
  const ahead = soon();
  const pages = [
    ...world(),
    ...page({
      conversations: [
        ...conversations(ahead),
        {
          ...conversations()[1]!,
          conversation_id: 'cnv_ahead_bob',
          last_message_at: ahead,
          by_jid: EVE.phone,
        },
      ],
      messages: [
        message('m_ahead', { ...direct, ...ofEve, sent_at: ahead }),
        message('m_ahead_group', { ...ofEve, sent_at: ahead }),
        message('m_ahead_bob', {
          sent_at: ahead,
          reactions: { [EVE.lid]: { emoji: '👍' }, [BOB.phone]: { emoji: '🎉' } },
        }),
        message('m_ahead_received', {
          sent_at: undefined,
          received_at: ahead,
          reactions: { [EVE.lid]: { emoji: '👍' } },
        }),
        message('m_ahead_bad', { ...ofEve, sent_at: ahead, body: 7 }),
        message('m_ahead_bad_bob', { sent_at: ahead, body: 7, mentioned_jids: [EVE.phone] }),
      ],
    }),
  ];
  await bring(pages);
  await erase(db, order());
  expect(traces(await dump(database), HERS)).toEqual([]);
  const rows = await dump(database);
  await replay(pages);
  // Twice: what came of the first, nothing later must have let in.
  await replay(pages);
  expect(traces(await dump(database), HERS)).toEqual([]);
  for (const table of ['messages', 'conversations', 'conversation_participants', 'contacts', 'quarantine'])
    expect((await dump(database)).get(table)!.length).toBe(rows.get(table)!.length);
  // What is truly later comes, from before that date too.
  await bring(page({ messages: [message('m_new', { ...direct, ...ofEve, sent_at: soon(1) })] }));
  expect(await messageIds()).toContain('m_new');
  await bring(page({ conversations: conversations(ahead), contacts: contacts() }));
  expect(await ids('conversations', 'conversation_id')).toContain('cnv_eve');
  expect(await ids('contacts', 'person_id')).toContain(EVE.id);
});
