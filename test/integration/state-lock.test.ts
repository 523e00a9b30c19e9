/** Whoever writes beside the pages waits for the connection's state row, which a page has locked (R22). */
import { sql } from 'kysely';
import { beforeEach, expect, test } from 'vitest';
import { queueMissed } from '../../src/media/missed.ts';
import { redactMedia } from '../../src/store/media-queue.ts';
import { lockState } from '../../src/store/state.ts';
import { discard } from '../../src/sync/discard.ts';
import { erase } from '../../src/sync/erase.ts';
import { expireMessages } from '../../src/sync/retention.ts';
import { retryDeadLetter } from '../../src/sync/retry.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA } from '../support/database.ts';
import { applyAnswer, CONNECTION, contextOf } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';
import { contacts, database, db, EVE, KEY, message, ofEve, useDatabase } from './erasure-world.ts';

const DAY = 86_400_000;

useDatabase();
beforeEach(async () => {
  const messages = [
    message('m', { ...ofEve, sent_at: new Date(Date.now() - DAY).toISOString(), content_type: 'image' }),
  ];
  await applyAnswer(db, {
    cursor: 10,
    messages: [...messages, message('m_bad', { body: 7 })],
    contacts: contacts(),
  });
});

const retentionOf = (retain: number) => ({ db, limits: contextOf(db).limits, retain, changes: true });
const orderOf = (connectionId: string | undefined) => {
  return { key: KEY, changes: true, schema: SCHEMA, forever: false, connectionId, who: { jid: EVE.phone } };
};

test.each<[what: string, () => Promise<unknown>]>([
  ['retention', () => expireMessages(retentionOf(3_600_000), new AbortController().signal)],
  ['an erasure', () => erase(db, orderOf(CONNECTION))],
  ['an erasure on all connections', () => erase(db, orderOf(undefined))],
  ['what is queued of attachments', () => queueMissed(db, CONNECTION, 30 * DAY, false, undefined)],
  ['what is taken out of their archive', () => redactMedia(db, CONNECTION)],
  ['a retry of the quarantine', () => retryDeadLetter(db, '1', contextOf(db))],
  ['entries of the quarantine that are discarded', () => discard(db, {})],
  [
    'resync',
    () => runCommand(['resync', '--yes', '--connection', CONNECTION], { DATABASE_URL: database.url }),
  ],
])('%s', async (_, write) => {
  await database.query(
    `insert into whatsapp.media (connection_id, message_id) values ('${CONNECTION}', 'gone')`,
  );
  await database.query(`insert into whatsapp.messages (connection_id, message_id, deleted_at)
    values ('${CONNECTION}', 'gone', now())`);
  let written = false;
  let writing: Promise<unknown> = Promise.resolve();
  await db.transaction().execute(async (trx) => {
    await lockState(trx, CONNECTION);
    writing = write().then(() => {
      written = true;
    });
    const waiting = `select from pg_locks l join pg_stat_activity a using (pid)
      where not l.granted and a.datname = current_database()`;
    await waitFor(async () => written || (await database.query(waiting)).length > 0, { what: 'it to wait' });
    // It holds nothing yet that a page would wait for.
    await sql`update whatsapp.messages set body = 'by the page'`.execute(trx);
    await sql`update whatsapp.media set attempts = 1`.execute(trx);
    expect(written).toBe(false);
  });
  await writing;
  expect(written).toBe(true);
});
