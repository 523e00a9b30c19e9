import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { tell } from '../store/erased-changes.ts';
import { removeMedia } from '../store/media-files.ts';
import { connectionsToPrune, pruneLetters, pruneMessages } from '../store/retention.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import { inTransaction, type TransactionLimits } from '../store/transaction.ts';

export interface RetentionContext {
  readonly db: Kysely<Database>;
  readonly limits: TransactionLimits;
  /** RETAIN_MESSAGES in milliseconds. */
  readonly retain: number;
  /** Whether the change feed is told (CHANGES). */
  readonly changes: boolean;
  /** Removes files of the archive that nothing refers to any more; without it the sweep does so. */
  readonly removeFiles?: (files: readonly string[]) => Promise<unknown>;
}

/** Messages in one transaction: a page waits no longer for it than for another page. */
const AT_ONCE = 500;

/**
 * Deletes messages that are older than RETAIN_MESSAGES, of all connections, a small transaction at a time, behind the
 * lock of the connection's state row (R22). What comes again is not written (`Suppression`).
 * @returns how many.
 * @throws what `removeFiles` threw first, once all are deleted: an archive that is away keeps no message.
 */
export async function expireMessages(
  context: RetentionContext,
  signal: AbortSignal,
  atOnce = AT_ONCE,
): Promise<number> {
  const { db, retain, removeFiles } = context;
  let expired = 0;
  const failures: unknown[] = [];
  for (const connectionId of await connectionsToPrune(db, retain)) {
    for (let gone = atOnce; gone >= atOnce && !signal.aborted; expired += gone) {
      const some = await expireSome(context, connectionId, atOnce);
      gone = some.gone;
      if (some.files.length > 0) await removeFiles?.(some.files).catch((error) => failures.push(error));
    }
  }
  if (failures.length > 0) throw failures[0];
  return expired;
}

async function expireSome(
  { db, limits, retain, changes }: RetentionContext,
  connectionId: ConnectionId,
  most: number,
): Promise<{ readonly gone: number; readonly files: readonly string[] }> {
  return await inTransaction(db, limits, async (trx) => {
    if ((await lockState(trx, connectionId)) === undefined) return { gone: 0, files: [] };
    const messages = await pruneMessages(trx, connectionId, retain, most);
    const told = messages.map((one) => ({ ...one, kind: 'message' as const, op: 'deleted' as const }));
    await tell(trx, told, changes);
    const ids = messages.map(({ id }) => id);
    const files = ids.length === 0 ? [] : await removeMedia(trx, connectionId, ids);
    const letters = await pruneLetters(trx, connectionId, retain);
    return { gone: messages.length + letters, files };
  });
}
