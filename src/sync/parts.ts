import type { Transaction } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { tell } from '../store/erased-changes.ts';
import { deleteAttachments, deleteMessages } from '../store/erasures.ts';
import { deleteMessageLetters, partsOf } from '../store/parts.ts';
import type { Database } from '../store/schema.ts';

/**
 * Removes what partial records have told of messages that are known only now to be of somebody erased (R20): they
 * named nobody. Files of the archive that nothing refers to any more are found by its sweep. The caller holds the lock of
 * the state row.
 * @param target.changes whether the change feed is told (CHANGES).
 */
export async function removeParts(
  trx: Transaction<Database>,
  { connectionId, changes }: { readonly connectionId: ConnectionId; readonly changes: boolean },
  messageIds: readonly string[],
): Promise<void> {
  if (messageIds.length === 0) return;
  await deleteMessageLetters(trx, connectionId, messageIds);
  const parts = await partsOf(trx, connectionId, messageIds);
  if (parts.length === 0) return;
  await deleteMessages(trx, parts);
  await deleteAttachments(trx, parts);
  await tell(
    trx,
    parts.map((one) => ({ ...one, kind: 'message', op: 'deleted' })),
    changes,
  );
}
