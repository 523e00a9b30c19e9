import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CONTACT, CONVERSATION, MESSAGE } from '../../src/entities.ts';
import type { Row } from '../../src/model.ts';
import { type Batch, toBatches } from '../../src/sync/batches.ts';
import { changesOf } from './pages.ts';

const NO_BYTES = () => Buffer.alloc(0);

/** What the last write of each id leaves, where each write replaces the one before. */
function last(batches: readonly Batch[], key: string): Map<unknown, Row> {
  return new Map(batches.flatMap((batch) => batch.rows.map((row) => [row[key], row] as const)));
}

function messages(...rows: [id: string, seq: string, note?: string][]): Row[] {
  return rows.map(([message_id, seq, body]) => ({ message_id, seq, conversation_id: 'c', body }));
}

describe('twice in one page (R3)', () => {
  test('without any, everything is one batch, in its order', () => {
    const rows = messages(['b', '2'], ['a', '1'], ['c', '3']);
    expect(toBatches(MESSAGE, rows, NO_BYTES)).toEqual([
      { kind: 'message', partial: false, rows, json: NO_BYTES },
    ]);
    expect(toBatches(MESSAGE, [], NO_BYTES)).toEqual([]);
  });

  test('the highest seq is written last, wherever it stands', () => {
    const rows = messages(['a', '9', 'newest'], ['b', '1'], ['a', '8'], ['a', '7', 'oldest']);
    const batches = toBatches(MESSAGE, rows, NO_BYTES);
    expect(batches.map((batch) => batch.rows.map((row) => `${row.message_id}${row.seq}`))).toEqual([
      ['a7', 'b1'],
      ['a8'],
      ['a9'],
    ]);
  });

  test.each([
    ['9', '10'],
    ['99', '100'],
    ['9223372036854775806', '9223372036854775807'],
    ['9007199254740992', '9007199254740993'],
    ['0', '1'],
  ])('%s is lower than %s', (low, high) => {
    for (const order of [
      [low, high],
      [high, low],
    ] as const) {
      const rows = messages(['a', order[0]], ['a', order[1]]);
      expect(last(toBatches(MESSAGE, rows, NO_BYTES), 'message_id').get('a')?.seq).toBe(high);
    }
  });

  test('among equals the last one is written last', () => {
    const rows = messages(['a', '5', 'first'], ['a', '5', 'second'], ['a', '5', 'third']);
    expect(last(toBatches(MESSAGE, rows, NO_BYTES), 'message_id').get('a')?.body).toBe('third');
  });

  test('contacts have the same version: the last one is written, and nothing else', () => {
    const { batches } = changesOf(
      'contacts',
      { person_id: 'p', display_name: 'first' },
      { person_id: 'q' },
      { person_id: 'p', display_name: 'last' },
    );
    expect(batches).toHaveLength(1);
    expect(last(batches, CONTACT.key).get('p')?.display_name).toBe('last');
  });

  test('equals are one row, and their parts are kept for where Postgres refuses it', () => {
    const { batches, partial } = changesOf(
      'messages',
      { message_id: 'a', seq: 5, conversation_id: 'c', body: 'replaced' },
      { message_id: 'a', seq: 5, conversation_id: 'c', body: 'x', status: 'sent', one: 1 },
      { message_id: 'a', seq: 5, status: 'read', two: 2 },
      { message_id: 'a', seq: 4, conversation_id: 'c', body: 'older' },
      { message_id: 'b', seq: 4, status: 'alone' },
    );
    const row = last(batches, 'message_id').get('a')!;
    expect(batches.map((batch) => batch.rows.length)).toEqual([1, 1, 1]);
    expect(row).toMatchObject({ seq: '5', body: 'x', status: 'read', extra: { one: 1, two: 2 } });
    const parts = batches[2]!.parts!.get(row)!;
    expect(parts.map((batch) => [batch.partial, batch.rows[0]!.body, batch.rows[0]!.status])).toEqual([
      [false, 'replaced', undefined],
      [false, 'x', 'sent'],
      [true, undefined, 'read'],
    ]);
    const json = (batch: Batch, one: Row) => JSON.parse(batch.json(one).toString());
    expect(parts.map((batch) => json(batch, batch.rows[0]!).body)).toEqual(['replaced', 'x', undefined]);
    expect(json(batches[2]!, row)).toMatchObject({ status: 'read' });
    expect(partial).toBe(2);
    // What came alone is all there is of it: refused, it is not written once more.
    for (const { rows, parts: none } of batches.slice(0, 2)) expect(none!.get(rows[0]!)).toBeUndefined();
  });

  test('among equals, a conversation keeps the membership that the last one does not tell', () => {
    const participants = [{ participant_jid: 'a' }];
    const { batches } = changesOf(
      'conversations',
      { conversation_id: 'c', seq: 5, subject: 'first', participants },
      { conversation_id: 'c', seq: 5, subject: 'last' },
      { conversation_id: 'd', seq: 5, participants },
      { conversation_id: 'd', seq: 5, participants: [] },
    );
    expect(last(batches, CONVERSATION.key).get('c')).toMatchObject({ subject: 'last', participants });
    expect(last(batches, CONVERSATION.key).get('d')).toMatchObject({ participants: [] });
  });

  test('a record without seq takes the cursor, and so wins over those with one', () => {
    const { batches } = changesOf(
      'conversations',
      { conversation_id: 'c', subject: 'cursor' },
      { conversation_id: 'c', seq: 5, subject: 'five' },
    );
    expect(last(batches, CONVERSATION.key).get('c')?.subject).toBe('cursor');
  });

  test('a bad one leaves the good one', () => {
    const { batches, rejects } = changesOf(
      'messages',
      { message_id: 'a', seq: 1, body: 'good' },
      { message_id: 'a', seq: 2, body: 5 },
    );
    expect(last(batches, 'message_id').get('a')?.body).toBe('good');
    expect(rejects.map((reject) => reject.code)).toEqual(['type_mismatch']);
  });
});

describe('partial messages (R7)', () => {
  test('have batches of their own, written in the order of versions', () => {
    const { batches, partial } = changesOf(
      'messages',
      { message_id: 'a', seq: 2, status: 'read' },
      { message_id: 'a', seq: 1, conversation_id: 'c', body: 'x' },
      { message_id: 'b', seq: 1, status: 'sent' },
      { message_id: 'a', seq: 3, conversation_id: 'c', body: 'y' },
    );
    expect(batches.map((one) => [one.partial, one.rows.map((row) => `${row.message_id}${row.seq}`)])).toEqual(
      [
        [false, ['a1']],
        [true, ['b1']],
        [true, ['a2']],
        [false, ['a3']],
      ],
    );
    expect(partial).toBe(2);
  });
});

test('any rows: none is lost, each id once per batch and version, in the order of versions', () => {
  const seq = fc.oneof(fc.bigInt({ min: 0n, max: 12n }), fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }));
  const row = fc.record({ id: fc.constantFrom('a', 'b', 'c', '__proto__'), seq, whole: fc.boolean() });
  fc.assert(
    fc.property(fc.array(row, { maxLength: 30 }), (came) => {
      const rows: Row[] = came.map(({ id, seq: version, whole }, place) => ({
        message_id: id,
        seq: version.toString(),
        place,
        ...(whole ? { sent_at: '2026-11-20T12:00:00Z' } : {}),
      }));
      const batches = toBatches(MESSAGE, rows, NO_BYTES);
      const written = batches.flatMap((batch) =>
        batch.rows.flatMap((one) => batch.parts?.get(one)?.flatMap((part) => part.rows) ?? [one]),
      );
      expect(new Set(written)).toEqual(new Set(rows));
      expect(written).toHaveLength(rows.length);
      const versions = batches.flatMap((batch) => batch.rows.map((one) => `${one.message_id} ${one.seq}`));
      expect(new Set(versions).size).toBe(versions.length);
      for (const batch of batches) {
        expect(batch.rows.length).toBeGreaterThan(0);
        expect(new Set(batch.rows.map((one) => one.message_id)).size).toBe(batch.rows.length);
        for (const one of batch.rows) expect(one.sent_at === undefined).toBe(batch.partial);
      }
      for (const id of new Set(came.map((one) => one.id))) {
        const inOrder = written.filter((one) => one.message_id === id);
        const expected = rows
          .filter((one) => one.message_id === id)
          .map((one) => ({ one, version: BigInt(one.seq as string) }))
          .sort((a, b) => (a.version < b.version ? -1 : a.version > b.version ? 1 : 0))
          .map(({ one }) => one);
        expect(inOrder).toEqual(expected);
      }
    }),
  );
});
