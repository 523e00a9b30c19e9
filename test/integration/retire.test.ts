/** What docs/operations.md says to run by hand. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { openTestDatabase, useTestDatabase } from '../support/database.ts';
import { applyAnswer, CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });

test('the rows of a retired connection go, of every table; what keeps the erased out, and others, stay', async () => {
  const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const [block] = /(?<=```sql\n)do \$\$\n.*?(?=```)/s.exec(page) ?? [];
  const db = openTestDatabase(database.url);
  const answer = {
    cursor: 1,
    conversations: [{ conversation_id: 'c', kind: 'group', participants: [{ participant_jid: 'a@lid' }] }],
    messages: [{ message_id: 'm', conversation_id: 'c', sender_jid: 'a@lid', body: 'x', seq: 1 }, 7],
  };
  await applyAnswer(db, answer, {});
  await applyAnswer(db, answer, {}, 'other');
  await db.destroy();
  await database.query(`insert into whatsapp.suppressions (connection_id, hash) values ($1, 'x')`, [
    CONNECTION,
  ]);
  const tables = await database.query<{ name: string }>(
    `select relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid
      where relnamespace = 'whatsapp'::regnamespace and relkind = 'r' and attname = 'connection_id' order by 1`,
  );
  const rowsOf = async (connection: string) => {
    const left: string[] = [];
    for (const { name } of tables) {
      const rows = await database.query(`select from whatsapp.${name} where connection_id = $1`, [
        connection,
      ]);
      if (rows.length > 0) left.push(`${name} ${rows.length}`);
    }
    return left;
  };
  const others = await rowsOf('other');
  expect(others.length).toBeGreaterThan(8);
  await database.query(block!.replace('conn_…', CONNECTION));
  expect(await rowsOf(CONNECTION)).toEqual(['suppressions 1']);
  expect(await rowsOf('other')).toEqual(others);
});
