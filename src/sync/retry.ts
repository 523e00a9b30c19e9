import type { Kysely, Transaction } from 'kysely';
import { entityOf } from '../entities.ts';
import { parseExact } from '../lib/exact-json.ts';
import { mayNeedMending, mendJson } from '../lib/text.ts';
import { type Kind, OUTCOMES, type Outcome } from '../model.ts';
import {
  addParticipant,
  countInserted,
  noteRetry,
  readDeadLetter,
  resolveDeadLetter,
  type WholeDeadLetter,
} from '../store/dead-letters.ts';
import { quarantine } from '../store/quarantine.ts';
import type { History } from '../store/revisions.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import { Refusal } from './fields.ts';
import { normaliseParticipant, normaliseRecords } from './normalise.ts';
import { write } from './write.ts';

/** What became of a retried entry: how its record was written, or why it still cannot be. */
export type Retried =
  | { readonly applied: Outcome }
  | { readonly refused: string; readonly reason: string }
  | { readonly gone: true };

/**
 * Applies a quarantined record that passes now, under the ordinary rules: a newer row is not overwritten (R9). It
 * locks the connection's state row for its transaction instead of holding the lease (R22).
 * @throws what Postgres throws, but for a refusal of the record.
 */
export async function retryDeadLetter(db: Kysely<Database>, id: string, history: History): Promise<Retried> {
  return await db.transaction().execute(async (trx) => {
    const first = await readDeadLetter(trx, id);
    if (first === undefined) return { gone: true };
    await lockState(trx, first.connection_id);
    // Read again behind the lock: a page may have resolved it meanwhile.
    const letter = await readDeadLetter(trx, id);
    if (letter === undefined || letter.resolved_at !== null) return { gone: true };
    const text = letter.json.toString('utf8');
    const mend = mayNeedMending(text);
    const record = mend ? mendJson(parseExact(text)) : parseExact(text);
    if (letter.kind === 'participant') return await retryParticipant(trx, letter, record);
    const entity = entityOf(letter.kind as Kind);
    const cursor = BigInt(letter.cursor_to);
    const { batches, rejects } = normaliseRecords(entity, [record], cursor, false, () => letter.json);
    const whole = rejects.find((reject) => reject.kind === letter.kind);
    if (whole !== undefined) return await still(trx, letter, whole.code, whole.reason);
    const { connection_id: connectionId, numbering } = letter;
    const target = { connectionId, numbering, history };
    const { tally, refused } = await write(trx, batches, target, { carefully: true });
    if (refused[0] !== undefined) return await still(trx, letter, refused[0].code, refused[0].reason);
    // A conversation's bad participants stay behind, each on its own.
    if (rejects.length > 0)
      await quarantine(trx, rejects, { connectionId, numbering, from: cursor, to: cursor });
    await countInserted(trx, connectionId, tally);
    await resolveDeadLetter(trx, id, 'retried');
    return { applied: OUTCOMES.find((outcome) => tally[entity.kind][outcome] > 0)! };
  });
}

async function retryParticipant(
  trx: Transaction<Database>,
  letter: WholeDeadLetter,
  record: unknown,
): Promise<Retried> {
  const row = normaliseParticipant(record);
  if (row instanceof Refusal) return await still(trx, letter, row.code, row.reason);
  const added = await addParticipant(trx, letter.connection_id, letter.conversation_id!, row);
  await resolveDeadLetter(trx, letter.quarantine_id, 'retried');
  return { applied: added ? 'inserted' : 'unchanged' };
}

async function still(
  trx: Transaction<Database>,
  letter: WholeDeadLetter,
  code: string,
  reason: string,
): Promise<Retried> {
  await noteRetry(trx, letter.quarantine_id, code, reason);
  return { refused: code, reason };
}
