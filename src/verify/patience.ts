import { POOL_BUSY, STATEMENT_TIMEOUT } from '../errors/codes.ts';
import { codeOf } from '../errors/errors.ts';
import { BESIDE, type TransactionLimits } from '../store/transaction.ts';

/** Limits of what waits for a lock, an erasure's above all, so long that whoever is told to end may wait for it, too.
 * @param ms milliseconds. */
export function patient(ms: number): TransactionLimits {
  return { ...BESIDE, statementTimeout: ms };
}

/** Whether patience came to its end: others have the lock, or all of the connections, for what takes long. */
export function isBusy(error: unknown): boolean {
  return [POOL_BUSY, STATEMENT_TIMEOUT].includes(codeOf(error));
}
