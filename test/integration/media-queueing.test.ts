/** How messages get into the queue of attachments, and out of it. */
import { describe, expect, test } from 'vitest';
import { queueMissed } from '../../src/media/missed.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { queueMessages, redactMedia } from '../../src/store/media-queue.ts';
import { useFreshDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';

const database = useFreshDatabase({ migrated: true });
const rows = () => database.query('select * from whatsapp.media order by connection_id, message_id');

test('what carries no attachment any more once its turn comes is not queued', async () => {
  const image = { conversation_id: 'c', content_type: 'image', sent_at: '2026-11-01T10:00:00Z', seq: 1 };
  const messages = [
    { ...image, message_id: 'm1' },
    { ...image, message_id: 'm2', content_type: 'text' },
    { ...image, message_id: 'm3', deleted_at: '2026-11-01T11:00:00Z' },
  ];
  await applyAnswer(database.db, { cursor: 1, messages });
  const ids = ['m1', 'm2', 'm3', 'of nobody'];
  expect(await queueMessages(database.db, CONNECTION, ids, true)).toBe(1);
  expect(await rows()).toMatchObject([{ message_id: 'm1' }]);
  expect(await queueMessages(database.db, CONNECTION, ids, false)).toBe(1);
});

test('of many that were sent at one time none is passed over', async () => {
  await ensureConnections(database.db, [CONNECTION]);
  await database.query(
    `insert into whatsapp.messages (connection_id, message_id, content_type, sent_at)
    select $1, 'm' || n, 'image', now() from generate_series(1, 5001) n`,
    [CONNECTION],
  );
  const day = 86_400_000;
  const { queued, next } = await queueMissed(database.db, CONNECTION, day, false, undefined);
  expect(queued).toBe(5_000);
  expect(await queueMissed(database.db, CONNECTION, day, false, next)).toEqual({
    queued: 1,
    next: undefined,
  });
});

describe('a message that changes', () => {
  const message = (more: Record<string, unknown>) => ({
    cursor: more.seq as number,
    messages: [
      {
        ...{
          message_id: 'm1',
          conversation_id: 'c1',
          content_type: 'image',
          sent_at: '2026-11-01T10:00:00Z',
        },
        ...more,
      },
    ],
  });
  const keep = { media: true };
  const redact = { media: true, history: { on: true, deletedMessages: 'redact' as const } };
  const stored = () =>
    database.query(`update whatsapp.media set state = 'stored', location = 'file:///there', attempts = 1`);

  test.each([
    [{ content_type: 'text' }, 0],
    [{ content_type: 'text', media: {} }, 0],
    [{ content_type: 'text', media: null }, 0],
    [{ content_type: 'reaction' }, 0],
    [{ content_type: null }, 0],
    [{ content_type: 'text', media: { mime_type: 'image/jpeg' } }, 1],
    [{ content_type: 'sticker' }, 1],
    [{ content_type: 'something new', media: {} }, 1],
    [{ content_type: null, media: { a: [1] } }, 1],
  ])('%j is queued or not', async (fields, count) => {
    await applyAnswer(database.db, message({ seq: 1, ...fields }), keep);
    expect((await rows()).length).toBe(count);
  });

  test('in its receipts and its text leaves its attachment alone', async () => {
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 }, status: 'sent' }), keep);
    await stored();
    const [before] = await database.query('select xmin, ctid from whatsapp.media');
    await applyAnswer(database.db, message({ seq: 2, media: { a: 1 }, status: 'read', body: 'new' }), keep);
    expect(await database.query('select xmin, ctid from whatsapp.media')).toEqual([before]);
  });

  test('in its attachment is fetched anew, and keeps the file that it has until then', async () => {
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await stored();
    await database.query(`update whatsapp.media set claimed_by = 'a download', writing = 'file:///first'`);
    await applyAnswer(database.db, message({ seq: 2, media: { a: 2 } }), keep);
    const anew = { state: 'pending', location: 'file:///there', attempts: 0 };
    expect(await rows()).toMatchObject([{ ...anew, claimed_by: null, writing: null }]);
    await stored();
    // What came late is not newer.
    await applyAnswer(database.db, { ...message({ seq: 1, media: { a: 3 } }), cursor: 3 }, keep);
    expect(await rows()).toMatchObject([{ state: 'stored' }]);
  });

  test('by its deletion keeps its file, or loses it with DELETED_MESSAGES=redact', async () => {
    const deleted = { content_type: 'text', media: {}, deleted_at: '2026-11-01T11:00:00Z' };
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await stored();
    await applyAnswer(database.db, message({ seq: 2, media: { a: 1 }, body: 'edited' }), redact);
    expect(await rows()).toMatchObject([{ state: 'stored', location: 'file:///there' }]);
    await applyAnswer(database.db, message({ seq: 3, ...deleted }), keep);
    expect(await rows()).toMatchObject([{ state: 'stored', location: 'file:///there' }]);
    await applyAnswer(database.db, message({ seq: 4, ...deleted, body: 'x' }), redact);
    expect(await rows()).toEqual([]);
    // One that comes deleted is not fetched either.
    await applyAnswer(
      database.db,
      message({ seq: 5, ...deleted, content_type: 'image', media: { a: 1 } }),
      redact,
    );
    expect(await rows()).toEqual([]);
  });

  test('by its deletion while MEDIA_STORE was off loses it with the next round', async () => {
    await applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), keep);
    await applyAnswer(database.db, message({ seq: 2, deleted_at: '2026-11-01T11:00:00Z' }), { media: false });
    expect(await rows()).toHaveLength(1);
    expect(await redactMedia(database.db, 'conn_test')).toBe(1);
    expect(await redactMedia(database.db, 'conn_test')).toBe(0);
    expect(await rows()).toEqual([]);
  });

  test('a page that is rolled back queues nothing', async () => {
    const crash = () => {
      throw new Error('killed');
    };
    await expect(
      applyAnswer(database.db, message({ seq: 1, media: { a: 1 } }), { ...keep, reached: crash }),
    ).rejects.toThrow();
    expect(await rows()).toEqual([]);
  });
});
