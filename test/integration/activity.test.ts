import { sql } from 'kysely';
import { expect, test } from 'vitest';
import { readActivity } from '../../src/store/activity.ts';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });

test('records of the last hour by the minute, the newest last; what is ahead of the clock is of now', async () => {
  const activity = await database.db.transaction().execute(async (trx) => {
    // `now()` is the same for all of the transaction.
    await sql`insert into ${sql.table('sync_pages')} (connection_id, conversations, contacts, messages, applied_at)
      select connection, conversations, contacts, messages, now() - ago::interval from (values
        ('a', 1, 20, 300, '0'), ('a', 0, 0, 1000, '59.999 seconds'), ('a', 0, 0, 2, '1 minute'),
        ('a', 0, 0, 5, '59 minutes 59.999 seconds'), ('a', 0, 0, 7, '1 hour'), ('a', 0, 0, 9, '1 day'),
        ('b', 0, 0, 3, '-5 minutes'), ('c', 0, 0, 1, '2 hours')
      ) as p (connection, conversations, contacts, messages, ago)`.execute(trx);
    return await readActivity(trx);
  });
  const quiet = (minutes: number) => new Array<number>(minutes).fill(0);
  expect(activity).toEqual(
    new Map([
      ['a', [5, ...quiet(57), 2, 1321]],
      ['b', [...quiet(59), 3]],
    ]),
  );
});
