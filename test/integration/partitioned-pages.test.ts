import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type TestDatabase, useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';

/*
 * Pages into tables that are partitioned as docs/scaling.md says make what they make in whole ones. A row that is taken
 * by its place has to be the connection's own: each partition has one at that place.
 */

const DOCUMENT = path.join(import.meta.dirname, '../../docs/scaling.md');
const STATEMENTS = /```sql\n(begin;\n[\s\S]*?commit;\n)```/.exec(readFileSync(DOCUMENT, 'utf8'))![1]!;
const PARTITIONS = 4;
const FEWER = STATEMENTS.replace(
  'partitions constant integer := 16',
  `partitions constant integer := ${PARTITIONS}`,
);
const ROUNDS = 4;
const DERIVED = [
  ...['jids', 'conversation_counts', 'message_reactions', 'message_revisions', 'media'],
  ...['conversation_participants', 'conversation_memberships', 'changes'],
];

const whole = useTestDatabase({ migrated: true });
const partitioned = useTestDatabase({ migrated: true });

/** What a connection tells in a round: everything that is written beside the records changes. */
function told(of: string, round: number, seq: number, deleting: boolean): Answer {
  const at = `2026-11-01T10:00:${10 + seq}Z`;
  const lid = `1${of.slice(1)}@lid`;
  const chat = { conversation_id: 'chat', chat_jid: lid };
  return {
    cursor: seq,
    contacts: [
      {
        ...{ person_id: 'person', lid_jid: lid },
        ...(round > 1 && { phone_e164: `+4915100${of.slice(1)}` }),
      },
    ],
    conversations: [
      { ...chat, kind: 'direct', direct_person_id: 'person', last_message_at: at, seq },
      { conversation_id: 'group', kind: 'group', seq, participants: [{ participant_jid: `${round}@lid` }] },
    ],
    messages: [
      {
        ...{ ...chat, message_id: 'm', sender_jid: lid, direction: 'incoming', sent_at: at, seq },
        ...{ content_type: 'image', body: `${round}`, media: { round: Math.min(round, ROUNDS - 2) } },
        ...(deleting ? { deleted_at: at, reactions: {} } : { reactions: { '7@lid': '👍', '8@lid': '🙏' } }),
      },
      { message_id: `n${round}`, conversation_id: 'group', sender_jid: lid, sent_at: at, seq },
    ],
  };
}

async function rows(database: TestDatabase, table: string): Promise<string[]> {
  const found = await database.query<{ row: string }>(`
    select (select jsonb_object_agg(key, value) from jsonb_each(to_jsonb(t))
      where key !~ '_(at|from|until)$' and key not in ('at', 'since', 'quarantine_id'))::text as row
    from whatsapp.${table} t order by 1`);
  return found.map(({ row }) => row);
}

test('pages write the rows of their own connection only', async () => {
  await partitioned.query(FEWER);
  // One for each partition: alike in all of them, their rows have the same places.
  const found = await partitioned.query<{ id: string }>(
    `select min('c' || n) as id from generate_series(10, 99) n, generate_series(0, $1 - 1) r
      where satisfies_hash_partition('whatsapp.jids'::regclass, $1, r, 'c' || n) group by r order by 1`,
    [PARTITIONS],
  );
  const connections = found.map(({ id }) => id);
  expect(connections).toHaveLength(PARTITIONS);
  const context = { history: { on: true, deletedMessages: 'redact' as const }, media: true };
  let seq = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const of of connections) {
      seq++;
      for (const { db } of [whole, partitioned]) {
        // At last one deletes; the others must not lose what they have.
        const deleting = round === ROUNDS - 1 && of === connections[0];
        await applyAnswer(db, told(of, round, seq, deleting), context, of);
      }
    }
  }
  for (const table of DERIVED) {
    const made = await rows(whole, table);
    expect(made.length, table).toBeGreaterThanOrEqual(PARTITIONS - 1);
    expect(await rows(partitioned, table), table).toEqual(made);
  }
});
