/** Who is behind a JID, as contacts, members and direct chats tell it (`jids`): which of them counts. */
import { describe, expect, test } from 'vitest';
import { direct, E164, group, LID, message, PersonPages, PHONE } from './person-pages.ts';

const { page, rows } = PersonPages.use();

/** `jid person number`, where there is one. */
const known = async () =>
  (
    await rows(
      `select concat_ws(' ', jid, person_id, phone_e164) as row from whatsapp.jids order by jid collate "C"`,
    )
  ).map(({ row }) => row);
const member = (participant_jid: string, person_id?: string) => ({ participant_jid, person_id });

test('a number is the contact’s own word, with or without a plus, else its phone JID’s', async () => {
  await page({
    contacts: [
      { person_id: 'word', phone_e164: '4915100000001' },
      // As WhatsApp has some Mexican numbers: the JID that the number would have is nobody's.
      { person_id: 'both', phone_e164: '+5215512345678', phone_jid: '525512345678@s.whatsapp.net' },
      { person_id: 'note', phone_e164: 'ask', phone_jid: '4915100000003@s.whatsapp.net' },
    ],
  });
  expect(await known()).toEqual([
    '4915100000001@s.whatsapp.net word +4915100000001',
    '4915100000003@s.whatsapp.net note +4915100000003',
    '525512345678@s.whatsapp.net both +5215512345678',
  ]);
});

test('a person’s is followed, up to the length that fits; a group’s or a list’s is not', async () => {
  const longest = `${'9'.repeat(1020)}@lid`;
  const others = ['1@g.us', '1@broadcast', '1@newsletter', '@lid', '1@', '1', `9${longest}`];
  await page({ contacts: [longest, ...others].map((lid_jid, n) => ({ person_id: `p${n}`, lid_jid })) });
  expect(await known()).toEqual([`${longest} p0`]);
});

test('of several who claim a JID in one page always the same has it', async () => {
  const claims = ['p1', 'p2', 'p1'].map((person_id) => ({ person_id, lid_jid: LID }));
  for (const contacts of [claims.slice(0, 2), claims.slice(1)]) {
    await page({ contacts });
    await page({ contacts: contacts.map((one) => ({ ...one, display_name: 'again' })) });
    expect(await known()).toEqual([`${LID} p2`]);
  }
  const groups = (first: [number, string?], second: [number, string?], jid: string) =>
    [first, second].map(([seq, person], n) => ({
      ...group(seq, member(jid, person)),
      conversation_id: `of ${jid} ${n}`,
    }));
  await page({
    conversations: [
      // The newer one; of two as new, the greater; one that knows nobody never.
      ...groups([3, 'a'], [2, 'b'], '1@lid'),
      ...groups([2, 'b'], [3, 'a'], '2@lid'),
      ...groups([3, 'a'], [3, 'b'], '3@lid'),
      ...groups([3, 'b'], [3, 'a'], '4@lid'),
      ...groups([3], [2, 'a'], '5@lid'),
    ],
  });
  expect(await known()).toEqual(['1@lid a', '2@lid a', '3@lid b', `${LID} p2`, '4@lid b', '5@lid a']);
});

test('what a chat merely repeats takes no JID away from whom it is now, and its time counts all the same', async () => {
  const times = () =>
    rows(`select person_id, last_message_at from whatsapp.jids where jid <> '${PHONE}' order by jid desc`);
  const at = '2026-11-02T00:00:00Z';
  await page({
    // The chat does not know who it is with, a newer group does.
    conversations: [direct(1, { direct_person_id: null, last_message_at: at }), group(2, member(LID, 'p0'))],
  });
  expect(await times()).toEqual([{ person_id: 'p0', last_message_at: new Date(at) }]);
  await page({ conversations: [direct(3, { last_message_at: at })] });
  expect(await times()).toMatchObject([{ person_id: 'p1' }]);
  await page({ contacts: [{ person_id: 'p9', lid_jid: LID, phone_jid: PHONE }] });
  const later = '2026-11-03T00:00:00Z';
  await page({ conversations: [direct(4, { last_message_at: later })] });
  expect(await times()).toEqual([{ person_id: 'p9', last_message_at: new Date(later) }]);
  expect(await known()).toEqual([`${PHONE} p9 ${E164}`, `${LID} p9 ${E164}`]);
  // A member that is new tells something, whoever else has it already.
  await page({
    conversations: [group(5, member(LID, 'p0')), { ...group(5, member(LID, 'p0')), conversation_id: 'g2' }],
  });
  expect(await times()).toMatchObject([{ person_id: 'p0' }]);
  // One of which nobody has told that it is direct.
  await page({ conversations: [direct(1, { conversation_id: 'c2', chat_jid: '31@lid', kind: null })] });
  expect(await times()).toHaveLength(1);
  // One that was heard of before.
  const chat = { conversation_id: 'c3', chat_jid: '32@lid', direct_person_id: null };
  await page({ messages: [message('m1', 1, { ...chat, sender_jid: '32@lid' })] });
  await page({ conversations: [direct(1, { ...chat, last_message_at: at })] });
  expect(await times()).toContainEqual({ person_id: null, last_message_at: new Date(at) });
});

test('a number that is known stays, whatever a JID looks like; that of a JID that is another’s now does not', async () => {
  await page({
    contacts: [{ person_id: 'p1', phone_e164: '+5215512345678', lid_jid: LID, phone_jid: '1@c.us' }],
  });
  await page({ conversations: [group(1, member(PHONE, 'p1'))] });
  expect(await known()).toEqual([
    '1@c.us p1 +5215512345678',
    `${PHONE} p1 +5215512345678`,
    `${LID} p1 +5215512345678`,
  ]);
  await page({ contacts: [{ person_id: 'p2', phone_e164: E164, lid_jid: '77@lid', phone_jid: '77@lid' }] });
  await page({
    contacts: [
      { person_id: 'p2', lid_jid: '78@lid' },
      { person_id: 'p0', lid_jid: '77@lid' },
    ],
  });
  expect((await known()).slice(-2)).toEqual(['77@lid p0', '78@lid p2']);
});

describe('a JID with a device', () => {
  const [phone, lid] = ['4915112345678:4@s.whatsapp.net', '491701234567890:12@lid'];
  const feed = () =>
    rows(`select message_id as id, person_jid, person_id, person_name, person_e164 from whatsapp.message_feed
      order by sent_at`);
  const own = { person_id: 'p1', phone_jid: PHONE, lid_jid: LID, display_name: 'Anna' };

  test.each(['before', 'after'])('is its account’s, when that was told %s the message', async (when) => {
    if (when === 'before') await page({ contacts: [own] });
    await page({
      messages: [message('m1', 1, { sender_jid: phone }), message('m2', 2, { sender_jid: lid })],
    });
    if (when === 'after') {
      expect(await known()).toEqual([`${phone} ${E164}`, lid]);
      await page({ contacts: [own] });
    }
    const anna = { person_id: 'p1', person_name: 'Anna', person_e164: E164 };
    expect(await feed()).toEqual([
      { id: 'm1', person_jid: phone, ...anna },
      { id: 'm2', person_jid: lid, ...anna },
    ]);
    expect(await rows('select jids from whatsapp.people')).toEqual([{ jids: [phone, PHONE, lid, LID] }]);
    // A group that tells of the account alone.
    await page({ conversations: [group(3, member(LID, 'p2'), member(PHONE, 'p2'))] });
    expect((await feed()).map(({ person_id }) => person_id)).toEqual(['p2', 'p2']);
  });

  test('follows what is told of itself before what is told of its account', async () => {
    await page({ messages: [message('m1', 1, { sender_jid: lid })] });
    await page({ conversations: [group(2, member(LID, 'p1'), member(lid, 'p2'))] });
    expect(await known()).toEqual([`${lid} p2`, `${LID} p1`]);
  });

  test('of another account, or another connection, is left alone', async () => {
    await rows(`insert into whatsapp.jids (connection_id, jid) values ('another', '${lid}')`);
    await page({ messages: [message('m1', 1, { sender_jid: '49170:1@lid' })] });
    await page({ contacts: [own] });
    expect(await known()).toEqual(['49170:1@lid', lid, `${PHONE} p1 ${E164}`, `${LID} p1 ${E164}`].sort());
  });
});
