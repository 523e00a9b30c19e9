/** The ledger of suppressions (R20): what several erasures say of a hash, and what belongs to which of them. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { addErasure } from '../../src/store/erasures.ts';
import {
  erasedPhones,
  findMarks,
  hashesBeside,
  learn,
  noteReturns,
  renew,
  type Suppressed,
  storedSince,
  suppress,
} from '../../src/store/suppressions.ts';
import { Judge } from '../../src/sync/judge.ts';
import { Marks } from '../../src/sync/marks.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';
import { KEY } from './erasure-world.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(() =>
  database.query(
    'truncate whatsapp.erasures, whatsapp.suppressions, whatsapp.erasure_returns, whatsapp.messages',
  ),
);

const hash = (name: string) => createHash('sha256').update(name).digest();
const entry = (name: string, connectionId?: string, isRecord = false): Suppressed => ({
  connectionId,
  hash: hash(name),
  isRecord,
});
/** An erasure of these, on a connection or on all. */
async function erasure(entries: readonly Suppressed[], connectionId?: string, forever = false) {
  const { id, erasedAt } = await addErasure(database.db, connectionId, KEY.fingerprint, forever, {});
  await suppress(database.db, id, entries);
  return { id, at: erasedAt.getTime() };
}
const markOf = async (name: string, connectionId = 'one') =>
  (await findMarks(database.db, connectionId, [hash(name)])).get(hash(name).toString('hex'));
/** The entries that belong to an erasure. */
async function ofErasure(id: string, names: readonly string[]) {
  const rows = await database.query<{ at: string }>(
    `select connection_id || ' ' || encode(hash, 'hex') as at from whatsapp.suppressions where erasure_id = $1`,
    [id],
  );
  const known = new Map(names.map((name) => [hash(name).toString('hex'), name]));
  return rows.map(({ at }) => `${at.split(' ')[0]} ${known.get(at.split(' ')[1]!)}`.trim()).sort();
}

test('of an erasure on all connections and one on this the strictest counts', async () => {
  const all = await erasure([entry('x', undefined, true)]);
  const here = await erasure([entry('x', 'one')], 'one', true);
  const mark = await markOf('x');
  expect(mark).toEqual({
    ...{ isRecord: true, forever: true, returned: false, erasedAt: here.at },
    erasureIds: expect.arrayContaining([all.id, here.id]),
  });
  // Heard of since both of them, and on this connection.
  await noteReturns(database.db, 'one', [all.id]);
  await noteReturns(database.db, 'one', [all.id]);
  expect(await markOf('x')).toMatchObject({ returned: false });
  expect(await markOf('x', 'two')).toEqual({
    ...{ isRecord: true, forever: false, returned: false, erasedAt: all.at, erasureIds: [all.id] },
  });
  await noteReturns(database.db, 'one', [here.id]);
  expect(await markOf('x')).toMatchObject({ returned: true });
  expect(await markOf('y')).toBeUndefined();
});

test('a later erasure takes an entry over, and what was strict stays so', async () => {
  await erasure([entry('x'), entry('y', undefined, true), entry('z')], undefined, true);
  const later = await erasure([entry('x', undefined, true), entry('x'), entry('y'), entry('y')]);
  const taken = { forever: true, erasedAt: later.at, erasureIds: [later.id], isRecord: true };
  expect(await markOf('x')).toMatchObject(taken);
  expect(await markOf('y')).toMatchObject(taken);
  expect((await markOf('z'))!.erasureIds).not.toEqual([later.id]);
});

test('the identifiers of the same erasures are found by one of them, not by a record nor as one', async () => {
  await erasure([entry('a'), entry('b', 'one'), entry('r', undefined, true)]);
  await erasure([entry('c')]);
  const beside = async (name: string) => [...(await hashesBeside(database.db, [hash(name)]))].sort();
  expect(await beside('a')).toEqual(['a', 'b'].map((name) => hash(name).toString('hex')).sort());
  expect(await beside('r')).toEqual([]);
});

test('a person who is erased once more has what was learned of them renewed, as far as the connections go', async () => {
  const names = ['a', 'b', 'c', 'r', 'd'];
  const entries = [entry('a'), entry('b', 'one'), entry('c', 'two'), entry('r', 'one', true)];
  await erasure(entries, undefined, true);
  // Somebody else's, who has but a record in common with those that are asked for.
  await erasure([entry('q', 'one', true), entry('d', 'one')]);
  const asked = [hash('a'), hash('q')];
  const { id } = await erasure([], 'one');
  await renew(database.db, id, 'one', asked);
  expect(await ofErasure(id, names)).toEqual(['one b']);
  const [row] = await database.query<{ at: Date }>(
    'select erased_at as at from whatsapp.erasures where erasure_id = $1',
    [id],
  );
  expect(await markOf('b')).toMatchObject({ forever: true, erasedAt: row!.at.getTime() });
  const everywhere = await erasure([]);
  await renew(database.db, everywhere.id, undefined, asked);
  // What has gone over to the other is that one's person by now, too.
  expect(await ofErasure(everywhere.id, names)).toEqual(['a', 'two c']);
});

test('what is learned belongs to the newest of the erasures that hold on the connection; what is known stays', async () => {
  const elsewhere = await erasure([], 'two');
  const first = await erasure([entry('known')], 'one', true);
  const second = await erasure([]);
  const learned = (name: string, erasureId: string) => ({ hash: hash(name), isRecord: false, erasureId });
  await learn(database.db, 'one', [
    ...[second, first].map(({ id }) => learned('new', id)),
    learned('other', elsewhere.id),
  ]);
  expect(await ofErasure(second.id, ['new'])).toEqual(['one new']);
  expect(await markOf('other')).toBeUndefined();
  await learn(database.db, 'one', [learned('new', first.id)]);
  expect(await markOf('new')).toMatchObject({ erasureIds: [second.id], forever: false });
});

test('a message is stored since a time if it was sent later, or received where nobody knows when it was sent', async () => {
  const at = '2026-11-01T12:00:00Z';
  const message = (id: string, times: object) => ({ message_id: id, conversation_id: 'c', seq: 1, ...times });
  await applyAnswer(
    database.db,
    {
      cursor: 1,
      messages: [
        message('sent', { sent_at: at, received_at: '2026-11-01T13:00:00Z' }),
        message('received', { sent_at: null, received_at: at }),
        message('never', { sent_at: null }),
      ],
    },
    {},
    'one',
  );
  const since = async (time: number, connection = 'one') => {
    const asked = ['sent', 'received', 'never', 'unknown'].map((id) => ({ id, since: time }));
    return (await storedSince(database.db, connection, asked)).map(({ id }) => id).sort();
  };
  expect(await since(Date.parse(at) - 1)).toEqual(['received', 'sent']);
  expect(await since(Date.parse(at))).toEqual([]);
  expect(await since(Date.parse(at) - 1, 'two')).toEqual([]);
});

test('a number is erased where its person is on all connections, and was heard of on none since', async () => {
  const phone = (n: number) => `+491510000000${n}`;
  const of = (n: number, connectionId?: string, isRecord = false) => ({
    ...{ connectionId, isRecord },
    hash: KEY.hash(phone(n)),
  });
  expect(await erasedPhones(database.db, KEY, [phone(1)])).toEqual(new Set());
  const erased = await erasure([of(1), of(2, undefined, true), of(3, 'one')]);
  const returned = await erasure([of(4)]);
  const forever = await erasure([of(5)], undefined, true);
  for (const { id } of [returned, forever]) await noteReturns(database.db, 'two', [id]);
  expect(erased.id).not.toBe(returned.id);
  const asked = [1, 1, 2, 3, 4, 5, 6].map(phone);
  expect(await erasedPhones(database.db, KEY, asked)).toEqual(new Set([phone(1), phone(5)]));
});

test('a person who is under several erasures comes back once heard of since all of them', async () => {
  const here = { connectionId: undefined, hash: KEY.hash('x'), isRecord: false };
  const all = await erasure([here]);
  const one = await erasure([{ ...here, connectionId: 'one' }], 'one');
  const marks = new Marks(database.db, 'one', KEY);
  await marks.ask(['x']);
  const judge = new Judge(marks, 0);
  const verdict = () => judge.verdict({ kind: 'contact', row: { person_id: 'x' } });
  judge.returned.add(all.id);
  expect(verdict()).toBe('erased');
  judge.returned.add(one.id);
  expect(verdict()).toBe('keep');
});
