/** What is counted of a conversation's messages (`conversation_counts`): theirs, ours, the first time and the last. */
import { expect, test } from 'vitest';
import { message, PersonPages } from './person-pages.ts';

const { page, rows } = PersonPages.use();

/** `conversation theirs ours first–last`, in seconds of the minute. */
const counts = async () =>
  (
    await rows(
      `select concat_ws(' ', conversation_id, messages_in, messages_out,
        to_char(first_message_at, 'SS') || '–' || to_char(last_message_at, 'SS')) as row
      from whatsapp.conversation_counts order by 1`,
    )
  ).map(({ row }) => row);
const sent = (second: number) => ({ sent_at: `2026-11-01T10:00:${String(second).padStart(2, '0')}Z` });

test('whose it is, by its direction where nothing else says so; when that turns out otherwise, it counts so', async () => {
  const outgoing = { is_from_me: null, direction: 'outgoing' };
  await page({ messages: [message('m1', 1, outgoing), message('m2', 2, outgoing)] });
  expect(await counts()).toEqual(['c1 0 2 01–02']);
  await page({ messages: [message('m2', 3, { is_from_me: null, direction: 'incoming' })] });
  expect(await counts()).toEqual(['c1 1 1 01–03']);
  await page({ messages: [message('m1', 4, { ...outgoing, conversation_id: 'c2' })] });
  expect(await counts()).toEqual(['c1 1 0 01–03', 'c2 0 1 04–04']);
});

test('the first and the last time move apart, whatever comes first, and with a message whose time is another', async () => {
  await page({ messages: [message('m1', 5)] });
  await page({ messages: [message('m2', 6, sent(3)), message('m3', 7, sent(9))] });
  expect(await counts()).toEqual(['c1 3 0 03–09']);
  await page({ messages: [message('m1', 8, sent(1))] });
  expect(await counts()).toEqual(['c1 3 0 01–09']);
  await page({ messages: [message('m4', 9, { sent_at: null })] });
  expect(await counts()).toEqual(['c1 4 0 01–09']);
});

test('of a whole record that completes a newer, partial one what that told counts', async () => {
  await page({ messages: [{ message_id: 'm1', seq: 9, is_from_me: true }] });
  await page({ messages: [message('m1', 1)] });
  expect(await counts()).toEqual(['c1 0 1 01–01']);
  // Once more, or older still, it is counted already.
  await page({ messages: [message('m1', 1)] });
  await page({ messages: [message('m1', 0, { conversation_id: 'c2' })] });
  expect(await counts()).toEqual(['c1 0 1 01–01']);
});

test('a JID is heard of by its message, a group is not', async () => {
  await page({
    messages: [
      message('m1', 1, { sender_jid: null, chat_jid: '120363@g.us' }),
      message('m2', 2, { sender_jid: null, chat_jid: null }),
      message('m3', 3, { sender_jid: '31@lid' }),
    ],
  });
  expect(await rows('select jid from whatsapp.jids')).toEqual([{ jid: '31@lid' }]);
});
