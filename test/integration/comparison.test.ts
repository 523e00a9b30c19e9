/** How a listed record compares with the stored row, case by case, and what a repair writes it under. */
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { CONTACT, CONVERSATION, type Entity, MESSAGE } from '../../src/entities.ts';
import {
  type CompareTarget,
  compare,
  conversationsSince,
  countKnown,
  readBefore,
  replacingVersions,
} from '../../src/store/comparison.ts';
import { databaseTime } from '../../src/store/progress.ts';
import { parseList } from '../../src/upstream/lists.ts';
import { readListed } from '../../src/verify/listed.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
const ANOTHER = 'conn_another';
const PAGE = {
  cursor: 10,
  contacts: [{ person_id: 'p', display_name: 'as it is' }],
  conversations: [
    { conversation_id: 'c', subject: 'as it is', participants: [{ participant_jid: 'x@lid' }], seq: 5 },
  ],
  messages: [
    { message_id: 'm', conversation_id: 'c', body: 'as it is', sent_at: '2026-11-02T00:00:00Z', seq: 5 },
    { message_id: 'undated', conversation_id: 'd', seq: 6 },
  ],
};
/** Of a list that was asked for after all of that was written. */
let target: CompareTarget;
let before: string;

beforeAll(async () => {
  before = await databaseTime(database.db);
  await applyAnswer(database.db, PAGE);
  const only = {
    cursor: 99,
    contacts: [{ person_id: 'other' }],
    messages: [{ message_id: 'other', seq: 1 }],
  };
  await applyAnswer(database.db, only, {}, ANOTHER);
  await database.query('update whatsapp.sync_state set numbering = 2');
  for (const table of ['contacts', 'conversations', 'messages'])
    await database.query(`update whatsapp.${table} set numbering = 2`);
});
beforeEach(async () => {
  const storedBefore = await databaseTime(database.db);
  target = {
    connectionId: CONNECTION,
    ...(await readBefore(database.db, CONNECTION, 0))!,
    storedBefore,
    sentAfter: null,
  };
});

async function verdict(entity: Entity, record: object, under: Partial<CompareTarget> = {}) {
  const { good } = readListed(entity, parseList(Buffer.from(JSON.stringify({ items: [record] })), 'items'));
  const [{ row, partial, id }] = good as [(typeof good)[number]];
  const { ids, known } = await compare(database.db, entity, [row], { ...target, ...under }, partial);
  const found = Object.entries(ids).filter(([, some]) => some.length > 0);
  expect(found.length).toBeLessThan(2);
  if (found.length > 0) expect(found[0]![1]).toEqual([id]);
  return { verdict: found[0]?.[0] ?? 'same', known };
}
const [MESSAGE_IS] = PAGE.messages as [object];
const [CONVERSATION_IS] = PAGE.conversations as [object];
const [CONTACT_IS] = PAGE.contacts as [object];
const unseen = () => ({ asOf: before });

describe('a record with a version', () => {
  test.each([
    ['is as it came', {}, 'same'],
    ['is newer', { seq: 6 }, 'older'],
    ['is newer, and else the same', { seq: 6, body: 'as it is' }, 'older'],
    ['has other content', { body: 'forged' }, 'different'],
    ['lacks content', { body: undefined }, 'different'],
    ['has a field that no column has', { more: 1 }, 'different'],
    ['is older, with other content', { seq: 4, body: 'old' }, 'conflicting'],
    ['is older, and else the same', { seq: 4 }, 'ahead'],
    ['is older, and tells but a part', { seq: 4, conversation_id: undefined, sent_at: undefined }, 'ahead'],
    ['is not there', { message_id: 'new' }, 'missing'],
    ["is another connection's", { message_id: 'other' }, 'missing'],
    ['tells but a part, as it is', { conversation_id: undefined, sent_at: undefined }, 'same'],
    [
      'tells but a part, otherwise',
      { conversation_id: undefined, sent_at: undefined, body: 'x' },
      'different',
    ],
  ])('that %s', async (_, change, found) => {
    expect((await verdict(MESSAGE, { ...MESSAGE_IS, ...change })).verdict).toBe(found);
  });

  test('that is older than a row which was written since is not behind it', async () => {
    expect((await verdict(MESSAGE, { ...MESSAGE_IS, seq: 4, body: 'x' }, unseen())).verdict).toBe('same');
  });

  test('of a newer numbering is newer, of an older one older', async () => {
    const first = { ...MESSAGE_IS, seq: 1 };
    expect((await verdict(MESSAGE, first, { numbering: 3 })).verdict).toBe('older');
    expect((await verdict(MESSAGE, { ...MESSAGE_IS, seq: 9 }, { numbering: 1 })).verdict).toBe('ahead');
  });

  test.each([
    ['as it is', [{ participant_jid: 'x@lid' }], 'same'],
    ['with another role', [{ participant_jid: 'x@lid', role: 'admin' }], 'different'],
    ['with one more', [{ participant_jid: 'x@lid' }, { participant_jid: 'y@lid' }], 'different'],
    ['empty', [], 'different'],
    ['not told', undefined, 'same'],
  ])('and a membership %s', async (_, participants, found) => {
    expect((await verdict(CONVERSATION, { ...CONVERSATION_IS, participants })).verdict).toBe(found);
  });
});

describe('a record without one', () => {
  const forged = { person_id: 'p', display_name: 'forged' };

  test('differs by its content alone', async () => {
    expect((await verdict(CONTACT, CONTACT_IS)).verdict).toBe('same');
    expect((await verdict(CONTACT, forged)).verdict).toBe('different');
    expect((await verdict(CONTACT, { person_id: 'new' })).verdict).toBe('missing');
    expect((await verdict(CONTACT, { person_id: 'other' })).verdict).toBe('missing');
    expect((await verdict(MESSAGE, { ...MESSAGE_IS, body: 'x', seq: undefined })).verdict).toBe('different');
  });

  test('says nothing of a row that was written since it was asked for', async () => {
    expect((await verdict(CONTACT, forged, unseen())).verdict).toBe('same');
    const behind = (await readBefore(database.db, CONNECTION, 3_600_000))!;
    expect((await verdict(CONTACT, forged, behind)).verdict).toBe('same');
    await database.query(`update whatsapp.contacts set synced_at = now() + interval '1 day'`);
    // Which is not now.
    expect((await verdict(CONTACT, forged, unseen())).verdict).toBe('different');
  });
});

test('known are the rows that were there before, and of messages those that were sent since', async () => {
  const known = async (entity: Entity, record: object, under: Partial<CompareTarget> = {}) =>
    (await verdict(entity, record, under)).known;
  const all = { ...target, storedBefore: before };
  expect(await known(MESSAGE, MESSAGE_IS)).toBe(1);
  expect(await known(MESSAGE, { ...MESSAGE_IS, body: 'forged' })).toBe(1);
  expect(await known(MESSAGE, { message_id: 'new', seq: 1 })).toBe(0);
  expect(await known(MESSAGE, MESSAGE_IS, { storedBefore: before })).toBe(0);
  expect(await countKnown(database.db, MESSAGE, target)).toBe(2);
  expect(await countKnown(database.db, MESSAGE, target, 'c')).toBe(1);
  expect(await countKnown(database.db, MESSAGE, all)).toBe(0);
  const [, undated] = PAGE.messages as [object, object];
  for (const [sentAfter, message, count] of [
    ['2026-11-02T00:00:00Z', MESSAGE_IS, 1],
    ['2026-11-02T00:00:01Z', MESSAGE_IS, 0],
    ['2026-11-01T00:00:00Z', undated, 0],
    [null, undated, 1],
  ] as const) {
    expect(await known(MESSAGE, message, { sentAfter })).toBe(count);
  }
  expect(await countKnown(database.db, MESSAGE, { ...target, sentAfter: '2026-11-02T00:00:00Z' })).toBe(1);
  expect(await countKnown(database.db, MESSAGE, { ...target, sentAfter: '2026-11-03T00:00:00Z' })).toBe(0);
  // What is not sent is not asked for that.
  expect(await known(CONTACT, CONTACT_IS, { sentAfter: '2030-01-01T00:00:00Z' })).toBe(1);
  expect(await countKnown(database.db, CONTACT, { ...target, sentAfter: '2030-01-01T00:00:00Z' })).toBe(1);
  expect(await conversationsSince(database.db, CONNECTION, '2026-11-02T00:00:00Z')).toEqual(['c']);
  expect(await conversationsSince(database.db, CONNECTION, '2026-11-02T00:00:01Z')).toEqual([]);
  expect(await conversationsSince(database.db, ANOTHER, '2000-01-01T00:00:00Z')).toEqual([]);
});

test('a record without a version replaces the row under the greatest that replication may have given it', async () => {
  const versions = async (stored: number, { cursor = '7', numbering = 2, of = CONNECTION } = {}) => {
    await database.query(`update whatsapp.contacts set version = ${stored}, numbering = ${numbering}`);
    const found = await replacingVersions(database.db, CONTACT, ['p', 'new', 'other'], { ...target, cursor });
    const [row] = await database.query('select version from whatsapp.contacts where connection_id = $1', [
      of,
    ]);
    return {
      version: found.get('p'),
      now: row!.version as string,
      others: found.size - Number(found.has('p')),
    };
  };
  // The cursor before the list was asked for; the connection is at 10 by now.
  expect(await versions(3)).toEqual({ version: '7', now: '3', others: 0 });
  expect(await versions(9)).toEqual({ version: '9', now: '9', others: 0 });
  expect(await versions(1_000)).toEqual({ version: '10', now: '10', others: 0 });
  // Of an older numbering: what comes is newer, whatever its version.
  expect(await versions(1_000, { numbering: 1 })).toEqual({ version: undefined, now: '1000', others: 0 });
  expect(await versions(1_000, { of: ANOTHER })).toMatchObject({ now: '1000' });
});
