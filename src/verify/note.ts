import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import { type Forgotten, lockState } from '../store/state.ts';
import { inTransaction } from '../store/transaction.ts';
import {
  noteInterrupted,
  noteVerification,
  type OpenVerification,
  type VerificationNote,
} from '../store/verifications.ts';
import { Marks } from '../sync/marks.ts';
import type { Forgetting } from '../sync/suppression.ts';
import { isBusy, patient } from './patience.ts';

export interface NoteContext {
  readonly db: Kysely<Database>;
  readonly forgetting: Forgetting;
  /** Apart, so that places keep no page waiting. */
  readonly maintenance: Kysely<Database>;
  /** How long what is noted waits, for an erasure above all, in milliseconds: whoever is told to end waits no longer. */
  readonly notePatience: number;
}

/**
 * Keeps how far a verification is, but for a place that names what was erased (R20): the upstream goes on listing that.
 * It begins anew then, should it be interrupted there. Behind the lock of the state row, so that an erasure knows of the
 * place, or the place of the erasure. What cannot be kept for now is left out: the next place will do.
 * @returns as `noteVerification` does.
 */
export async function note(
  { db, forgetting, maintenance, notePatience }: NoteContext,
  connectionId: ConnectionId,
  open: Pick<OpenVerification, 'id' | 'notedAt'>,
  stands: VerificationNote,
): Promise<string | undefined> {
  const { conversation, before } = stands.position ?? {};
  const names = [conversation, before].filter((name) => name !== undefined);
  if (names.length === 0) return await noteVerification(db, connectionId, open, stands);
  try {
    return await inTransaction(maintenance, patient(notePatience), async (trx) => {
      const state = await lockState(trx, connectionId);
      const gone = state !== undefined && (await wasErased(trx, connectionId, state, forgetting, names));
      return await noteVerification(trx, connectionId, open, gone ? { ...stands, position: null } : stands);
    });
  } catch (error) {
    if (isBusy(error)) return open.notedAt;
    throw error;
  }
}

/** Notes that a verification was interrupted. It is gone on with also where that cannot be noted for now. */
export async function noteInterruption(
  { db, notePatience }: NoteContext,
  connectionId: ConnectionId,
  open: Pick<OpenVerification, 'id' | 'notedAt'>,
  requests: number,
): Promise<void> {
  try {
    const interrupted = (trx: Db) => noteInterrupted(trx, connectionId, open, requests);
    await inTransaction(db, patient(notePatience), interrupted);
  } catch (error) {
    if (!isBusy(error)) throw error;
  }
}

/** Whether the ledger of suppressions knows any of these names; under another key than its own nobody can tell. */
async function wasErased(
  db: Db,
  connectionId: ConnectionId,
  { suppressedBy }: Forgotten,
  { key }: Forgetting,
  names: readonly string[],
): Promise<boolean> {
  if (suppressedBy === null) return false;
  if (key?.fingerprint !== suppressedBy) return true;
  const marks = new Marks(db, connectionId, key);
  await marks.ask(names);
  return !names.every((name) => marks.isUnknown(name));
}
