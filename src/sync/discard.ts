import type { Kysely } from 'kysely';
import { type DeadLetterFilter, deadLetterConnections, discardDeadLetters } from '../store/dead-letters.ts';
import type { Database } from '../store/schema.ts';
import { lockStates } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';

/**
 * Closes matching open entries without applying them; their JSON stays. Behind the locks of their connections, like all
 * who resolve entries or count them up (R22): each has several at a time, in an order of its own.
 * @returns how many.
 */
export async function discard(db: Kysely<Database>, filter: DeadLetterFilter): Promise<number> {
  return await inTransaction(db, BESIDE, async (trx) => {
    let connections = await deadLetterConnections(trx, filter);
    const locked = await lockStates(trx, connections);
    // One that got another id meanwhile (R21) is not among them.
    if (locked.length < connections.length) {
      connections = await deadLetterConnections(trx, filter);
      await lockStates(trx, connections);
    }
    return await discardDeadLetters(trx, filter, connections);
  });
}
