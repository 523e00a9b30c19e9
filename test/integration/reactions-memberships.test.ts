import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { CONNECTION } from '../support/pages.ts';
import { direct, group, LID, message, PersonPages, PHONE } from './person-pages.ts';

const { page, rows } = PersonPages.use();

describe('reactions', () => {
  const reactions = () =>
    rows('select reactor_jid, emoji from whatsapp.message_reactions order by reactor_jid');
  const since = () =>
    rows(
      'select extract(epoch from since)::float8 as since from whatsapp.message_reactions order by reactor_jid',
    );

  test('appear, change and disappear; one that stays keeps its time', async () => {
    const a = { emoji: '👍', timestamp_ns: 9007199254740993n };
    await page({ messages: [message('m1', 1, { reactions: { 'a@lid': a, 'b@lid': '🎉' } })] });
    expect(await reactions()).toEqual([
      { reactor_jid: 'a@lid', emoji: '👍' },
      { reactor_jid: 'b@lid', emoji: '🎉' },
    ]);
    const [first] = await since();
    await page({ messages: [message('m1', 2, { reactions: { 'a@lid': a, 'b@lid': { emoji: '👎' } } })] });
    const [same, later] = (await since()) as { since: number }[];
    expect(same).toEqual(first);
    expect(later!.since).toBeGreaterThan(same!.since);
    expect((await reactions())[1]).toEqual({ reactor_jid: 'b@lid', emoji: '👎' });
    // Taken back: an empty emoji. A partial record that says nothing of reactions leaves them.
    await page({ messages: [message('m1', 3, { reactions: { 'a@lid': a, 'b@lid': { emoji: '' } } })] });
    await page({ messages: [{ message_id: 'm1', seq: 4, status: 'read' }] });
    expect(await reactions()).toEqual([{ reactor_jid: 'a@lid', emoji: '👍' }]);
    await page({ messages: [message('m1', 5)] });
    expect(await reactions()).toEqual([]);
  });

  test('are told with who reacts by the query of docs/crm.md, also where the JID names a device', async () => {
    const device = PHONE.replace('@', ':4@');
    await page({
      contacts: [{ person_id: 'p1', display_name: 'Anna', phone_jid: PHONE, lid_jid: LID }],
      messages: [message('m1', 1, { reactions: { [device]: '👍', [LID]: '🎉' } })],
    });
    const document = readFileSync(path.join(import.meta.dirname, '../../docs/crm.md'), 'utf8');
    const [, query] = /```sql\n(select [^`]*message_reactions[^`]*)```/.exec(document)!;
    const asked = query!.replace('conn_1', CONNECTION).replace('message_1', 'm1');
    expect((await rows(asked)).map((row) => [row.emoji, row.name]).sort()).toEqual([
      ['🎉', 'Anna'],
      ['👍', 'Anna'],
    ]);
  });

  test('of a whole record that completes a newer, partial one count where nothing is told yet; of an older one not', async () => {
    await page({
      messages: [
        { message_id: 'm1', seq: 5, reactions: { 'a@lid': '👍' } },
        { message_id: 'm2', seq: 5, status: 'read' },
        message('m3', 5),
      ],
    });
    const whole = (id: string, seq: number) => message(id, seq, { reactions: { 'b@lid': '🎉' } });
    await page({ messages: [whole('m1', 2), whole('m2', 2)] });
    const now = [
      { reactor_jid: 'a@lid', emoji: '👍' },
      { reactor_jid: 'b@lid', emoji: '🎉' },
    ];
    expect(await reactions()).toEqual(now);
    await page({
      messages: [message('m1', 1, { reactions: { 'c@lid': '👍' } }), message('m2', 1), whole('m3', 1)],
    });
    expect(await reactions()).toEqual(now);
  });

  test('a shape that is not understood stays in the jsonb alone', async () => {
    const odd = {
      '👍': ['a@lid'],
      count: 3,
      note: 'text',
      '@lid': '👍',
      'b@lid': 7,
      'c@lid': { emoji: 5 },
      'd@lid': { text: '👍' },
      'e@lid': null,
      [`${'f'.repeat(3_000)}@lid`]: '👍',
      'g@lid': 'x'.repeat(65),
    };
    const { tally } = await page({
      messages: [message('m1', 1, { reactions: { ...odd, 'h@lid': 'x'.repeat(64) } })],
    });
    expect(tally.message.inserted).toBe(1);
    expect(await reactions()).toEqual([{ reactor_jid: 'h@lid', emoji: 'x'.repeat(64) }]);
    const [row] = await rows('select reactions from whatsapp.messages');
    expect(row!.reactions).toEqual({ ...odd, 'h@lid': 'x'.repeat(64) });
  });
});

describe('membership', () => {
  const intervals = () =>
    rows(`select participant_jid as jid, left_at is null as open, joined_at <= coalesce(left_at, now())
        and (left_at <= lead(joined_at) over (partition by participant_jid order by joined_at)) is not false as sound
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
    expect((await intervals()).filter(({ open }) => open)).toEqual([was('a@lid', true), was('c@lid', true)]);
    await page({ conversations: [direct(2, { participants: [{ participant_jid: LID }] })] });
    await page({ conversations: [group(8)] });
    expect((await intervals()).filter(({ open }) => open)).toEqual([]);
    expect(await intervals()).toHaveLength(5);
    expect((await intervals()).every(({ sound }) => sound)).toBe(true);
    // In, out and in again within a page.
    await page({ conversations: [group(9, 'n@lid'), group(10), group(11, 'n@lid')] });
    expect((await intervals()).filter(({ jid }) => jid === 'n@lid')).toEqual([was('n@lid', true)]);
  });
});
