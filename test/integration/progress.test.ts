import { expect, test } from 'vitest';
import { noteFailure } from '../../src/store/advance.ts';
import { makeDueUnlessLocked } from '../../src/store/due.ts';
import { databaseTime, readProgress } from '../../src/store/progress.ts';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });

test('a failure counts for whoever made the connection due, where its turn began after that', async () => {
  const { db } = database;
  await database.query(`insert into whatsapp.sync_state (connection_id) values ('a')`);
  const fails = (begunAgo: number) => {
    const failure = { kind: 'not_found', message: 'HTTP 404', failures: 1, nextPollIn: 3_600_000 } as const;
    return noteFailure(db, 'a', '0', { ...failure, begunAgo });
  };
  await fails(0);
  const since = await databaseTime(db);
  await makeDueUnlessLocked(db, ['a']);
  const failed = async () => (await readProgress(db, 'a', since))?.failedSince;
  expect(await failed()).toBe(false);
  await fails(60_000);
  expect(await failed()).toBe(false);
  // An event, of which nobody knows whether it came in the turn or after it.
  await makeDueUnlessLocked(db, ['a']);
  expect(await failed()).toBe(false);
  await fails(0);
  expect(await failed()).toBe(true);
  // Before the database's clock was put back.
  const ahead = `clock_timestamp() + interval '1 hour'`;
  await database.query(`update whatsapp.sync_state set last_polled_at = ${ahead}, next_poll_at = ${ahead}`);
  expect(await failed()).toBe(false);
});
