import type { Kysely, Transaction } from 'kysely';
import { entityOf } from '../entities.ts';
import { type Kind, OUTCOMES, type Outcome, type Reject } from '../model.ts';
import {
  addParticipant,
  countInserted,
  deleteDeadLetter,
  noteRetry,
  readDeadLetter,
  resolveDeadLetter,
  type WholeDeadLetter,
} from '../store/dead-letters.ts';
import { quarantine } from '../store/quarantine.ts';
import type { Database } from '../store/schema.ts';
import { type LockedState, lockState } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';
import { Refusal } from './fields.ts';
import { attempt } from './halve.ts';
import { normaliseParticipant, normaliseRecords, readRecord } from './normalise.ts';
import { Suppression } from './suppression.ts';
import { hasChanged, refusedBy, resolveSuperseded, type Writing, write } from './write.ts';

/** What became of a retried entry: how its record was written, or why it still cannot be. */
export type Retried =
  | { readonly applied: Outcome }
  | { readonly refused: string; readonly reason: string }
  | { readonly gone: true }
  /** It must not be stored: its person was erased (R20), or it is older than RETAIN_MESSAGES. The entry is deleted. */
  | { readonly suppressed: true };

/**
 * Applies a quarantined record that passes now, under the ordinary rules: a newer row is not overwritten (R9). It
 * locks the connection's state row for its transaction instead of holding the lease (R22).
 * @throws what Postgres throws, but for a refusal of the record.
 */
export async function retryDeadLetter(
  db: Kysely<Database>,
  id: string,
  { history, changes, media, forgetting }: Writing,
): Promise<Retried> {
  return await inTransaction(db, BESIDE, async (trx) => {
    let whole = await readDeadLetter(trx, id);
    let state: LockedState | undefined;
    // Read again behind the lock: a page may have resolved it meanwhile, or its connection have got another id (R21).
    for (let of: string | undefined; whole !== undefined && of !== whole.connection_id; ) {
      of = whole.connection_id;
      state = await lockState(trx, of);
      whole = await readDeadLetter(trx, id);
    }
    if (state === undefined || whole === undefined || whole.resolved_at !== null) return { gone: true };
    const suppression = Suppression.of(trx, whole.connection_id, state, forgetting);
    const letter = suppression === undefined ? whole : await leftOf(suppression, whole);
    if (letter === undefined) {
      await deleteDeadLetter(trx, id);
      return { suppressed: true };
    }
    const record = readRecord(letter.json);
    if (letter.kind === 'participant') return await retryParticipant(trx, letter, record, changes);
    const entity = entityOf(letter.kind as Kind);
    // Of one without a version of its own: the cursor that it came with last (R2).
    const cursor = BigInt(letter.version);
    const { batches, rejects } = normaliseRecords(entity, [record], cursor, () => letter.json);
    const bad = rejects.find((reject) => reject.kind === letter.kind);
    if (bad !== undefined) return await still(trx, letter, bad.code, bad.reason);
    const { connection_id: connectionId, numbering } = letter;
    const target = { connectionId, numbering, history, changes, media };
    const written = await write(trx, batches, target, { carefully: true, suppression });
    const { tally, refused } = written;
    const again = refused.find((reject) => reject.kind === letter.kind);
    if (again !== undefined) return await still(trx, letter, again.code, again.reason);
    // A conversation's bad participants stay behind, each on its own.
    const members = [...rejects, ...refused];
    if (members.length > 0)
      await quarantine(trx, members, { connectionId, numbering, from: cursor, to: cursor });
    const untold = !changes && hasChanged(tally);
    // Of a page that moved no cursor, as of a verification, the ledger has no row.
    const beside = letter.cursor_from === letter.cursor_to;
    await countInserted(trx, connectionId, tally, { beside, untold });
    await resolveDeadLetter(trx, id, 'retried');
    await resolveSuperseded(trx, written, target);
    return { applied: OUTCOMES.find((outcome) => tally[entity.kind][outcome] > 0)! };
  });
}

/** The entry without what must not be stored of it; undefined where that is all. */
async function leftOf(
  suppression: Suppression,
  letter: WholeDeadLetter,
): Promise<WholeDeadLetter | undefined> {
  const { kind, record_id: recordId, json } = letter;
  const [left] = await suppression.rejects([
    { kind: kind as Reject['kind'], recordId, json, code: '', reason: '' },
  ]);
  return left && { ...letter, json: left.json };
}

async function retryParticipant(
  trx: Transaction<Database>,
  letter: WholeDeadLetter,
  record: unknown,
  changes: boolean,
): Promise<Retried> {
  const row = normaliseParticipant(record);
  if (row instanceof Refusal) return await still(trx, letter, row.code, row.reason);
  let applied: Outcome = 'unchanged';
  const code = await attempt(trx, async () => {
    applied = await addParticipant(trx, letter, row, changes);
  });
  if (code !== undefined) return await still(trx, letter, code, refusedBy(code));
  await resolveDeadLetter(trx, letter.quarantine_id, 'retried');
  return { applied };
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
