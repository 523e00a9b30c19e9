/** Claims: what a download may still say of its attachment, and who may begin one. */
import { beforeEach, expect, test } from 'vitest';
import {
  type Claim,
  claimMedia,
  noteGone,
  noteRetry,
  noteStored,
  noteWriting,
  releaseClaims,
} from '../../src/store/media-claims.ts';
import { refetchLost, refetchRemoved } from '../../src/store/media-files.ts';
import { useTestDatabase } from '../support/database.ts';

const ID = 'conn_a';
const MONTH = 30 * 86_400_000;
const database = useTestDatabase({ migrated: true });
beforeEach(() => database.query('truncate whatsapp.media'));

const row = (id: string, more = '') =>
  database.query(`insert into whatsapp.media (connection_id, message_id) values ('${ID}', '${id}');
    ${more === '' ? '' : `update whatsapp.media set ${more} where message_id = '${id}'`}`);
const rows = (columns: string) => database.query(`select ${columns} from whatsapp.media order by message_id`);
let calls = 0;
const claim = (most = 1): Promise<Claim[]> =>
  claimMedia(database.db, [{ connectionId: ID, room: most }], most, 'newest', `token ${++calls}`, 60_000);
const WHY = { kind: 'network', message: 'somewhere' };
const FILE = { location: 'file:///new', bytes: 1, sha256: 'x', mimeType: null };

test('whoever has lost a claim changes nothing, though somebody else has claimed it', async () => {
  await row('m');
  const [lost] = await claim();
  await database.query('update whatsapp.media set claimed_by = null, claimed_until = null');
  const [held] = await claim();
  const before = await rows('*');
  expect(await noteWriting(database.db, lost!, 'file:///x')).toBe(false);
  expect(await noteStored(database.db, lost!, FILE)).toBe(false);
  expect(await noteGone(database.db, lost!, 'unavailable', WHY)).toBe(false);
  expect(await noteRetry(database.db, lost!, WHY, 0, MONTH)).toBeUndefined();
  await releaseClaims(database.db, [lost!]);
  expect(await rows('*')).toEqual(before);
  expect(await noteStored(database.db, held!, FILE)).toBe(true);
});

test('what is not due, or in another’s transaction, is passed over', async () => {
  await row('later', `next_try_at = now() + interval '1 hour'`);
  await row('stored', `state = 'stored'`);
  await row('locked');
  await row('free');
  await database.db.transaction().execute(async (trx) => {
    await trx.selectFrom('media').selectAll().where('message_id', '=', 'locked').forUpdate().execute();
    expect((await claim(4)).map(({ messageId }) => messageId)).toEqual(['free']);
  });
});

test('what is given back refers to no file that was to be written', async () => {
  await row('m');
  const claims = await claim();
  await noteWriting(database.db, claims[0]!, 'file:///x');
  await releaseClaims(database.db, claims);
  expect(await rows('writing, claimed_by, claimed_until')).toEqual([
    { writing: null, claimed_by: null, claimed_until: null },
  ]);
});

test('a file that is there stays, whatever becomes of the one that was to replace it', async () => {
  for (const id of ['failed', 'forgotten', 'gone']) {
    await row(
      id,
      `location = 'file:///there'${id === 'forgotten' ? `, sent_at = now() - interval '40 days'` : ''}`,
    );
  }
  const claims = new Map((await claim(3)).map((one) => [one.messageId, one]));
  expect(await noteGone(database.db, claims.get('failed')!, 'failed', WHY)).toBe(true);
  expect(await noteGone(database.db, claims.get('gone')!, 'unavailable', WHY)).toBe(true);
  expect(await noteRetry(database.db, claims.get('forgotten')!, WHY, 0, MONTH)).toBe(false);
  expect(await rows('state, location')).toEqual(
    Array(3).fill({ state: 'stored', location: 'file:///there' }),
  );
});

test('a file that was removed is fetched again; what has changed since is left alone', async () => {
  await row('m', `state = 'stored', location = 'file:///there'`);
  const lost = { connection_id: ID, message_id: 'm', location: 'file:///there' };
  expect(await refetchLost(database.db, [{ ...lost, location: 'file:///before' }])).toBe(0);
  expect(await refetchRemoved(database.db, ['file:///there'])).toBe(1);
  expect(await rows('state, location')).toEqual([{ state: 'pending', location: null }]);
  // It is being fetched anew.
  await database.query(`update whatsapp.media set location = 'file:///there', attempts = 3`);
  expect(await refetchLost(database.db, [lost])).toBe(0);
  await database.query(`update whatsapp.media set state = 'stored'`);
  expect(await refetchLost(database.db, [lost])).toBe(1);
  expect(await rows('state, location, attempts')).toEqual([
    { state: 'pending', location: null, attempts: 0 },
  ]);
});

test('a file that another is to replace stays where that one was removed meanwhile', async () => {
  const there = { location: 'file:///there', sha256: 'x', bytes: '1' };
  await row('m', `location = '${there.location}', sha256 = 'x', bytes = 1`);
  const [held] = await claim();
  await noteWriting(database.db, held!, 'file:///new');
  expect(await refetchRemoved(database.db, ['file:///new'])).toBe(1);
  expect(await noteStored(database.db, held!, FILE)).toBe(false);
  expect(await rows('state, location, sha256, bytes, writing')).toEqual([
    { state: 'pending', ...there, writing: null },
  ]);
});
