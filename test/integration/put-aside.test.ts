/** What the quarantine says of records that are not in the tables: a verification counts none of them as drift. */
import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Reject } from '../../src/model.ts';
import { membersPutAside, neverPutAside, putAside } from '../../src/store/put-aside.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(() => database.query('truncate whatsapp.quarantine'));

interface Entry {
  readonly record_id: string | null;
  readonly kind?: string;
  readonly connection?: string;
  readonly numbering?: number;
  readonly version?: number;
  readonly resolution?: string;
  readonly conversation?: string;
  readonly sha256?: string;
  readonly code?: string;
}

const hash = (text: string) => createHash('sha256').update(text).digest('hex');

async function enter(entries: readonly Entry[]): Promise<void> {
  for (const [place, entry] of entries.entries()) {
    const { record_id, kind = 'message', connection = CONNECTION, numbering = 2, version = 5 } = entry;
    const { resolution = null, conversation = null, sha256 = `hash ${place}`, code = '22003' } = entry;
    await database.query(
      `insert into whatsapp.quarantine (connection_id, kind, record_id, numbering, version, resolution, conversation_id,
        record_sha256, error_code, resolved_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, case when $6::text is not null then now() end)`,
      [connection, kind, record_id, numbering, version, resolution, conversation, sha256, code],
    );
  }
}

test('a record is aside while its version, or a newer one, is open or discarded', async () => {
  await enter([
    { record_id: 'open' },
    { record_id: 'newer', version: 6 },
    { record_id: 'discarded', resolution: 'discarded' },
    { record_id: 'discarded by a check', resolution: 'discarded', code: 'type_mismatch' },
    { record_id: 'retried', resolution: 'retried' },
    { record_id: 'superseded', resolution: 'superseded' },
    { record_id: 'older', version: 4 },
    { record_id: 'of an older numbering', numbering: 1, version: 99 },
    { record_id: 'of another kind', kind: 'contact' },
    { record_id: "another's", connection: 'another' },
  ]);
  const rows = await database.query<{ id: string }>('select record_id as id from whatsapp.quarantine');
  const aside = async (version: string) => {
    const asked = rows.map(({ id }) => ({ id, version }));
    return [...(await putAside(database.db, CONNECTION, 2, 'message', asked))].sort();
  };
  expect(await aside('5')).toEqual(['discarded', 'discarded by a check', 'newer', 'open']);
  // Without a version of its own, it may well be another one that passes our checks.
  expect(await aside('-1')).toEqual(['discarded', 'newer', 'older', 'open']);
});

test('so is a member, in its own conversation', async () => {
  await enter(
    [
      { record_id: 'open', conversation: 'c' },
      { record_id: 'discarded', conversation: 'c', resolution: 'discarded' },
      { record_id: 'by a check', conversation: 'c', resolution: 'discarded', code: 'type_mismatch' },
      { record_id: 'stored', conversation: 'c' },
      { record_id: 'superseded', conversation: 'c', resolution: 'superseded' },
      { record_id: 'elsewhere', conversation: 'd' },
      { record_id: "another's", conversation: 'c', connection: 'another' },
    ].map((entry) => ({ ...entry, kind: 'participant' })),
  );
  await enter([{ record_id: 'no member', conversation: 'c', sha256: 'x' }]);
  // Its like elsewhere does not make one that is there.
  for (const [connection, conversation, jid] of [
    [CONNECTION, 'c', 'stored'],
    [CONNECTION, 'd', 'open'],
    ['another', 'c', 'open'],
  ]) {
    await database.query(
      `insert into whatsapp.conversation_participants (connection_id, conversation_id, participant_jid)
        values ($1, $2, $3)`,
      [connection, conversation, jid],
    );
  }
  const aside = await membersPutAside(database.db, CONNECTION, ['c']);
  expect([...aside].sort()).toEqual(['c discarded', 'c open']);
});

test('a bad record is known by its id or by its bytes, whatever became of it', async () => {
  await enter([
    { record_id: 'by its id', resolution: 'superseded' },
    { record_id: null, sha256: hash('by its bytes') },
    { record_id: 'of another kind', kind: 'contact', sha256: hash('of another kind') },
    { record_id: "another's", connection: 'another', sha256: hash("another's") },
  ]);
  const reject = (text: string): Reject => {
    return { kind: 'message', recordId: text, json: Buffer.from(text), code: 'x', reason: 'x' };
  };
  const asked = ['by its id', 'by its bytes', 'of another kind', "another's", 'new'].map(reject);
  expect(await neverPutAside(database.db, CONNECTION, asked)).toEqual(asked.slice(2));
});

test('a bad member of one conversation is not known by its like in another', async () => {
  await enter([
    { record_id: 'a@lid', kind: 'participant', conversation: 'c', resolution: 'superseded' },
    { record_id: null, kind: 'participant', conversation: 'c', sha256: hash('no JID') },
  ]);
  const reject = (recordId: string | null, json: string, conversationId: string): Reject => {
    return { kind: 'participant', recordId, conversationId, json: Buffer.from(json), code: 'x', reason: 'x' };
  };
  const asked = ['c', 'd'].flatMap((id) => [reject('a@lid', 'other bytes', id), reject(null, 'no JID', id)]);
  expect(await neverPutAside(database.db, CONNECTION, asked)).toEqual(asked.slice(2));
});
