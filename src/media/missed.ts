import type { Kysely } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { findMissed, type MissedPosition, queueMessages } from '../store/media-queue.ts';
import type { Database } from '../store/schema.ts';
import { lockStates } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';

/**
 * Queues what carries an attachment and is not in the queue: it came while MEDIA_STORE was off, or by a worker of an
 * older version. In steps, each of which locks the connection's state row (R22) only where it finds something. What was
 * found is looked at again behind the lock: it may have been erased while that was waited for.
 * @param window RETENTION_WINDOW, in milliseconds. @param redact see `mediaQueue`.
 * @returns how many were queued, and where to go on; undefined at the end.
 */
export async function queueMissed(
  db: Kysely<Database>,
  connectionId: ConnectionId,
  window: number,
  redact: boolean,
  after: MissedPosition | undefined,
): Promise<{ queued: number; next: MissedPosition | undefined }> {
  const { missed, next } = await findMissed(db, connectionId, window, redact, after);
  if (missed.length === 0) return { queued: 0, next };
  const queued = await inTransaction(db, BESIDE, async (trx) => {
    await lockStates(trx, [connectionId]);
    return await queueMessages(trx, connectionId, missed, redact);
  });
  return { queued, next };
}
