import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ENTITIES } from '../../src/entities.ts';
import { normalise, readRecord } from '../../src/sync/normalise.ts';
import type { ArrayName } from '../../src/upstream/page.ts';
import { CURSOR, changesOf, pageOf, parsedRow, rowOf } from './pages.ts';

const MESSAGE = { message_id: 'm1', conversation_id: 'c1', seq: 7 };
const CONVERSATION = { conversation_id: 'c1', seq: 7 };
const CONTACT = { person_id: 'p1' };
const BY_ARRAY = { messages: MESSAGE, conversations: CONVERSATION, contacts: CONTACT };

describe('the version (R2)', () => {
  test.each([
    ['7', '7'],
    ['0', '0'],
    ['9007199254740993', '9007199254740993'],
    ['9223372036854775807', '9223372036854775807'],
    ['"9223372036854775807"', '9223372036854775807'],
    ['"007"', '7'],
    // Without one of its own, the record takes the answer's cursor.
    ['null', String(CURSOR)],
    [undefined, String(CURSOR)],
  ])('of "seq": %s is %s', (seq, version) => {
    const field = seq === undefined ? '' : `,"seq":${seq}`;
    expect(parsedRow('messages', `{"message_id":"m"${field}}`).seq).toBe(version);
    expect(parsedRow('conversations', `{"conversation_id":"c"${field}}`).seq).toBe(version);
  });

  test('of a contact is the answer’s cursor, whatever it brings', () => {
    expect(parsedRow('contacts', '{"person_id":"p"}')).toEqual({ person_id: 'p', version: String(CURSOR) });
    expect(rowOf('contacts', '{"person_id":"p","seq":9007199254740993,"version":1}')).toBe(
      `{"person_id":"p","version":"${CURSOR}","extra":{"seq":9007199254740993,"version":1}}`,
    );
  });
});

describe('numbers (R4)', () => {
  test.each(['media', 'reactions', 'unknown'])('keep every digit in %s', (name) => {
    const value = '{"n":9223372036854775807,"deep":[{"f":0.10000000000000000555},1e400,-1.0],"s":"1.50"}';
    const row = rowOf('messages', `{"message_id":"m","${name}":${value}}`);
    expect(row).toContain(name === 'unknown' ? `"extra":{"unknown":${value}}` : `"${name}":${value}`);
  });

  test('keep every digit in fields of their own that are not known', () => {
    expect(rowOf('conversations', '{"conversation_id":"c","big":12345678901234567890,"small":1}')).toContain(
      '"extra":{"big":12345678901234567890,"small":1}',
    );
  });
});

describe('times (R5)', () => {
  test('are stored in UTC, to the microsecond', () => {
    const row = parsedRow('messages', { ...MESSAGE, sent_at: '2026-11-20T12:34:56.1234569+02:00' });
    expect(row.sent_at).toBe('2026-11-20T10:34:56.123456Z');
  });

  test.each(['', '0001-01-01T00:00:00Z', null])('that are %j are null', (time) => {
    const row = parsedRow('messages', { ...MESSAGE, edited_at: time, deleted_at: time });
    expect(row).toEqual({ message_id: 'm1', conversation_id: 'c1', seq: '7' });
  });
});

describe('a record is whole (R7)', () => {
  test.each(ENTITIES)('a scalar of a $kind that is absent or null is null', ({ array, fields }) => {
    const record = BY_ARRAY[array];
    const nulls = Object.fromEntries(Object.keys(fields).map((name) => [name, null]));
    expect(parsedRow(array, { ...nulls, ...record })).toEqual(parsedRow(array, record));
  });

  test.each(ENTITIES)('every field of a $kind becomes its column', ({ array, key, fields, version }) => {
    const samples = {
      id: 'x@lid',
      text: 'Grüße 😀'.repeat(500),
      boolean: false,
      time: '2026-11-20T12:00:00Z',
      object: { '👍': ['x@lid'], '': {} },
    };
    const values = Object.fromEntries(Object.entries(fields).map(([name, type]) => [name, samples[type]]));
    const expected = { [key]: 'id', [version]: String(CURSOR), ...values };
    expect(parsedRow(array, { [key]: 'id', ...values })).toEqual(expected);
  });

  test('empty text, false and empty objects are values, not null', () => {
    const values = { body: '', is_from_me: false, reactions: {}, media: {}, status: '' };
    expect(parsedRow('messages', { ...MESSAGE, ...values })).toMatchObject(values);
  });

  test('fields that the tables do not know are kept, whatever they are called', () => {
    const strange = {
      sender_person_id: 'p',
      extra: { a: 1 },
      numbering: 1,
      synced_at: 'x',
      connection_id: 'y',
    };
    const more = { toString: null, hasOwnProperty: [], constructor: { prototype: 0 }, participants: [] };
    const unknown = { ...strange, ...more };
    expect(parsedRow('messages', { ...MESSAGE, ...unknown })).toEqual({
      ...MESSAGE,
      seq: '7',
      extra: unknown,
    });
  });

  test('a field called __proto__ is kept like any other', () => {
    const row = rowOf('contacts', '{"person_id":"p","__proto__":{"display_name":"x","__proto__":1.50}}');
    expect(row).toBe(
      `{"person_id":"p","version":"${CURSOR}","extra":{"__proto__":{"display_name":"x","__proto__":1.50}}}`,
    );
  });

  test.each([
    ['neither', {}, true],
    ['null for both', { conversation_id: null, sent_at: null }, true],
    ['a time that is not set', { sent_at: '0001-01-01T00:00:00Z' }, true],
    ['a conversation', { conversation_id: 'c1' }, false],
    ['a time', { sent_at: '2026-11-20T12:00:00Z' }, false],
  ])('a message with %s is partial: %s', (_, fields, partial) => {
    const changes = changesOf('messages', { message_id: 'm', status: 'read', ...fields });
    expect(changes.batches.map((batch) => batch.partial)).toEqual([partial]);
    expect(changes.partial).toBe(partial ? 1 : 0);
  });

  test('only messages are partial', () => {
    for (const bare of [
      changesOf('conversations', { conversation_id: 'c' }),
      changesOf('contacts', { person_id: 'p' }),
    ]) {
      expect([bare.partial, bare.batches[0]!.partial]).toEqual([0, false]);
    }
  });
});

describe('text (R10)', () => {
  test('is mended in fields, ids, keys and values, in media and in what is not known', () => {
    const bad = String.raw`\u0000\ud800`;
    const row = rowOf(
      'messages',
      `{"message_id":"m${bad}","body":"${bad}","media":{"k${bad}":["${bad}"]},"new${bad}":"${bad}"}`,
    );
    const R = '\ufffd\ufffd';
    expect(JSON.parse(row)).toEqual({
      message_id: `m${R}`,
      seq: String(CURSOR),
      body: R,
      media: { [`k${R}`]: [R] },
      extra: { [`new${R}`]: R },
    });
  });

  test('is mended in a record that is read alone, from its bytes', () => {
    expect(readRecord(Buffer.from(String.raw`{"a":"\u0000"}`))).toEqual({ a: '\ufffd' });
  });

  test('that was invalid UTF-8 is mended too, and numbers beside it stay exact', () => {
    const record = Buffer.concat([
      Buffer.from(String.raw`{"message_id":"m","x":"\u0000","n":12345678901234567890,"body":"a`),
      Buffer.from([0xff]),
      Buffer.from('"}'),
    ]);
    const extra = '{"x":"\ufffd","n":12345678901234567890}';
    expect(rowOf('messages', record)).toBe(
      `{"message_id":"m","seq":"${CURSOR}","body":"a\ufffd","extra":${extra}}`,
    );
  });
});

describe('a page', () => {
  test('is written in the order in which others point: contacts, conversations, messages', () => {
    const page = pageOf('messages', [MESSAGE]);
    const changes = normalise({
      ...page,
      records: {
        messages: [MESSAGE],
        conversations: [CONVERSATION],
        contacts: [CONTACT, { person_id: 'p2' }],
      },
    });
    expect(changes.batches.map((batch) => batch.kind)).toEqual(['contact', 'conversation', 'message']);
    expect(changes.came).toEqual({ contact: 2, conversation: 1, message: 1 });
  });

  test.each<ArrayName>(['messages', 'conversations', 'contacts'])(
    'without %s has no batch of them',
    (array) => {
      expect(changesOf(array)).toEqual({
        batches: [],
        rejects: [],
        came: { contact: 0, conversation: 0, message: 0 },
        partial: 0,
        bodySha256: createHash('sha256').update(pageOf(array, []).body).digest('hex'),
      });
    },
  );

  test('gives every row the bytes that it came as', () => {
    const texts = [
      '{ "message_id": "a" }',
      '{"message_id":"b","body":"\\u0041"}',
      '{"message_id":"a","seq":1}',
    ];
    const { batches } = changesOf('messages', '{"bad":1}', ...texts);
    const bytes = batches.flatMap((batch) => batch.rows.map((row) => batch.json(row).toString()));
    expect(bytes.sort()).toEqual([...texts].sort());
  });
});
