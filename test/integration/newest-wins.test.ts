import { beforeEach, describe, expect, test } from 'vitest';
import { useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.messages, whatsapp.conversations, whatsapp.conversation_participants, whatsapp.contacts, whatsapp.message_revisions, whatsapp.sync_state, whatsapp.sync_pages',
  );
});

const message = (seq: number, fields: Record<string, unknown> = {}) => ({
  message_id: 'm1',
  conversation_id: 'c1',
  sent_at: '2026-11-01T10:00:00Z',
  body: `version ${seq}`,
  seq,
  ...fields,
});

const apply = (answer: Answer, context = {}) => applyAnswer(database.db, answer, context);

async function stored() {
  const rows = await database.query('select * from whatsapp.messages');
  return rows[0]!;
}

describe('messages (R2)', () => {
  test('a greater seq replaces, a lower one does not', async () => {
    expect((await apply({ cursor: 1, messages: [message(5)] })).tally.message.inserted).toBe(1);
    expect((await apply({ cursor: 2, messages: [message(6)] })).tally.message.updated).toBe(1);
    expect((await apply({ cursor: 3, messages: [message(4)] })).tally.message.stale).toBe(1);
    expect(await stored()).toMatchObject({ body: 'version 6', seq: '6' });
  });

  test('at an equal seq, identical content writes nothing and other content amends', async () => {
    await apply({ cursor: 1, messages: [message(5)] });
    const before = await stored();
    expect((await apply({ cursor: 2, messages: [message(5)] })).tally.message.unchanged).toBe(1);
    expect(await stored()).toEqual(before);
    const amended = await apply({ cursor: 3, messages: [message(5, { body: 'other' })] });
    expect(amended.tally.message.amended).toBe(1);
    expect(await stored()).toMatchObject({
      body: 'other',
      seq: '5',
      first_synced_at: before.first_synced_at,
    });
  });

  test('a greater numbering replaces whatever the seq', async () => {
    await apply({ cursor: 1, messages: [message(500)] });
    await database.query('update whatsapp.sync_state set numbering = 2');
    await apply({ cursor: 2, messages: [message(3)] });
    expect(await stored()).toMatchObject({ body: 'version 3', seq: '3', numbering: 2 });
  });

  test("without seq, the answer's cursor is the version", async () => {
    await apply({ cursor: 9007199254740993n, messages: [message(1, { seq: undefined })] });
    expect(await stored()).toMatchObject({ seq: '9007199254740993' });
  });

  test('int64 is exact, in seq, cursor and inside media (R4)', async () => {
    const seq = 9223372036854775807n;
    const media = { file_length: 9007199254740993n, ratio: 1.5 };
    await apply({ cursor: seq, messages: [{ ...message(1), seq, media }] });
    const [row] = await database.query(
      'select m.seq, m.media::text, s.cursor from whatsapp.messages m join whatsapp.sync_state s using (connection_id)',
    );
    expect(row).toEqual({
      seq: '9223372036854775807',
      media: '{"ratio": 1.5, "file_length": 9007199254740993}',
      cursor: '9223372036854775807',
    });
  });

  test('times keep microseconds, cut, in any offset (R5)', async () => {
    await apply({
      cursor: 1,
      messages: [
        message(1, { sent_at: '2026-03-01T01:30:00.1234569+05:30', edited_at: '0001-01-01T00:00:00Z' }),
      ],
    });
    const [row] = await database.query(
      `select to_char(sent_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') as sent_at, edited_at from whatsapp.messages`,
    );
    expect(row).toEqual({ sent_at: '2026-02-28 20:00:00.123456', edited_at: null });
  });
});

describe('twice in one page (R3)', () => {
  test('the highest seq wins wherever it stands, among equals the last', async () => {
    const page = [
      message(7, { body: 'seven' }),
      message(9, { body: 'nine' }),
      message(9, { body: 'nine, last' }),
      message(8),
    ];
    await apply({ cursor: 1, messages: page });
    expect(await stored()).toMatchObject({ body: 'nine, last', seq: '9' });
  });

  test('contacts: the last one; participants: the last one of a JID', async () => {
    const participants = [
      { participant_jid: 'a@lid', role: 'member' },
      { participant_jid: 'a@lid', role: 'admin' },
    ];
    await apply({
      cursor: 1,
      contacts: [
        { person_id: 'p', display_name: 'first' },
        { person_id: 'p', display_name: 'last' },
      ],
      conversations: [{ conversation_id: 'c', seq: 1, participants }],
    });
    expect(await database.query('select display_name from whatsapp.contacts')).toEqual([
      { display_name: 'last' },
    ]);
    expect(await database.query('select role from whatsapp.conversation_participants')).toEqual([
      { role: 'admin' },
    ]);
  });
});

describe('contacts (R2)', () => {
  const contact = (name: string) => ({ person_id: 'p1', display_name: name });

  test('identical content is not written, whatever the cursor', async () => {
    await apply({ cursor: 10, contacts: [contact('Ana')] });
    const { tally } = await apply({ cursor: 20, contacts: [contact('Ana')] });
    expect(tally.contact.unchanged).toBe(1);
    expect(await database.query('select version from whatsapp.contacts')).toEqual([{ version: '10' }]);
  });

  test('an answer with a lower cursor does not replace', async () => {
    await apply({ cursor: 20, contacts: [contact('new')] });
    await database.query('update whatsapp.sync_state set cursor = 0');
    const { tally } = await apply({ cursor: 10, contacts: [contact('old')] });
    expect(tally.contact.stale).toBe(1);
  });
});

describe('a record is whole (R7)', () => {
  test('an absent field is null, an unknown one is in extra', async () => {
    await apply({
      cursor: 1,
      messages: [message(1, { status: 'sent', sender_person_id: 'p9' })],
    });
    expect(await stored()).toMatchObject({ status: 'sent', extra: { sender_person_id: 'p9' } });
    await apply({ cursor: 2, messages: [message(2)] });
    expect(await stored()).toMatchObject({ status: null, extra: null });
  });

  test('participants absent or null leave the membership, an array replaces it, an empty one too', async () => {
    const conversation = (seq: number, participants: unknown) => ({
      conversation_id: 'c',
      seq,
      participants,
    });
    const members = async () =>
      (
        await database.query<{ participant_jid: string }>(
          'select participant_jid from whatsapp.conversation_participants order by 1',
        )
      ).map((row) => row.participant_jid);
    const jids = (...names: string[]) => names.map((participant_jid) => ({ participant_jid }));
    await apply({ cursor: 1, conversations: [conversation(1, jids('a', 'b'))] });
    await apply({ cursor: 2, conversations: [conversation(2, undefined)] });
    await apply({ cursor: 3, conversations: [conversation(3, null)] });
    expect(await members()).toEqual(['a', 'b']);
    const replaced = await apply({
      cursor: 4,
      conversations: [conversation(3, jids('b', 'c'))],
    });
    expect(replaced.tally.conversation.amended).toBe(1);
    expect(await members()).toEqual(['b', 'c']);
    await apply({ cursor: 5, conversations: [conversation(2, jids('z'))] });
    expect(await members()).toEqual(['b', 'c']);
    await apply({ cursor: 6, conversations: [conversation(4, [])] });
    expect(await members()).toEqual([]);
  });

  test('a partial message is merged and never blanks a body', async () => {
    await apply({ cursor: 1, messages: [message(1, { extra_field: 1 })] });
    const stub = { message_id: 'm1', seq: 2, deleted_at: '2026-11-02T00:00:00Z', body: null, other_field: 2 };
    const { tally } = await apply({ cursor: 2, messages: [stub] });
    expect(tally.message.updated).toBe(1);
    expect(await stored()).toMatchObject({
      body: 'version 1',
      conversation_id: 'c1',
      seq: '2',
      extra: { extra_field: 1, other_field: 2 },
      deleted_at: new Date('2026-11-02T00:00:00Z'),
    });
  });

  test('a partial message that came first is completed by an older whole one (R8)', async () => {
    await apply({ cursor: 1, messages: [{ message_id: 'm1', seq: 9, status: 'read' }] });
    await apply({ cursor: 2, messages: [message(5, { status: 'sent' })] });
    expect(await stored()).toMatchObject({
      body: 'version 5',
      status: 'read',
      seq: '9',
      conversation_id: 'c1',
    });
  });

  test('a partial and a whole record of a message in one page', async () => {
    const stub = { message_id: 'm1', seq: 6, status: 'read' };
    await apply({ cursor: 1, messages: [stub, message(5, { status: 'sent' })] });
    expect(await stored()).toMatchObject({ body: 'version 5', status: 'read', seq: '6' });
  });
});

describe('revisions', () => {
  const revisions = () =>
    database.query(
      'select revision, body, seq, deleted_at is not null as deleted from whatsapp.message_revisions order by revision',
    );

  test('a replaced text is kept, a receipt makes none', async () => {
    await apply({ cursor: 1, messages: [message(1)] });
    await apply({
      cursor: 2,
      messages: [message(2, { body: 'version 1', status: 'read' })],
    });
    expect(await revisions()).toEqual([]);
    await apply({ cursor: 3, messages: [message(3)] });
    await apply({
      cursor: 4,
      messages: [message(4, { deleted_at: '2026-11-02T00:00:00Z', body: '' })],
    });
    expect(await revisions()).toEqual([
      { revision: 1, body: 'version 1', seq: '2', deleted: false },
      { revision: 2, body: 'version 3', seq: '3', deleted: false },
    ]);
  });

  test('redact blanks what a deletion replaced, and what was kept of it before', async () => {
    const history = { on: true, deletedMessages: 'redact' as const };
    await apply({ cursor: 1, messages: [message(1)] }, { history });
    await apply({ cursor: 2, messages: [message(2)] }, { history });
    await apply(
      { cursor: 3, messages: [message(3, { deleted_at: '2026-11-02T00:00:00Z', body: null })] },
      { history },
    );
    expect(await revisions()).toMatchObject([
      { revision: 1, body: null },
      { revision: 2, body: null },
    ]);
  });

  test('off keeps none', async () => {
    const history = { on: false, deletedMessages: 'keep' as const };
    await apply({ cursor: 1, messages: [message(1)] }, { history });
    await apply({ cursor: 2, messages: [message(2)] }, { history });
    expect(await revisions()).toEqual([]);
  });
});
