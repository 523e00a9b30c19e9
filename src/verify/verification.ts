import { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { checkLedger, type LedgerProblem } from '../store/ledger.ts';
import { noteVerification, openVerification } from '../store/verifications.ts';
import type { VerifyContext, VerifyOrder, VerifyResult } from './context.ts';
import { noteInterruption } from './note.ts';
import { recount } from './repair.ts';
import { Walk } from './walk.ts';

/**
 * Verifies one connection: reads the upstream's own lists (contacts, conversations, every conversation's messages
 * backwards to the edge of what is served) and compares them with the tables; with `repair` mends what differs. What
 * was found is kept after every page, so that an interrupted one can be gone on with.
 * @returns the result, of a failure too.
 * @throws what Postgres throws where the result cannot be kept.
 */
export async function verify(
  context: VerifyContext,
  connectionId: ConnectionId,
  order: VerifyOrder,
  signal: AbortSignal,
): Promise<VerifyResult> {
  const { db, maintenance } = context;
  const since = order.since?.toISOString() ?? null;
  const open = await openVerification(db, connectionId, { ...order, since }, order.resume === true);
  const walk = new Walk(context, connectionId, order, since, open);
  const { counts } = walk;
  let ledger: readonly LedgerProblem[] = [];
  let error: ReplicaError | undefined;
  try {
    await walk.all(signal);
    ledger = await checkLedger(maintenance, connectionId);
    if (order.repair && ledger.some(({ code }) => code === 'counter_differs')) {
      await recount(context, connectionId, signal);
      ledger = await checkLedger(maintenance, connectionId);
    }
  } catch (cause) {
    error = ReplicaError.from('internal', cause, 'comparing a list');
    if (signal.aborted || error.kind === 'lease_lost') {
      await noteInterruption(context, connectionId, walk.noted, walk.requests);
      return { state: 'interrupted', counts, requests: walk.requests, ledger };
    }
  }
  const { requests } = walk;
  const state = error === undefined ? 'finished' : 'failed';
  await noteVerification(db, connectionId, walk.noted, {
    ...{ state, position: null, counts, requests, ledgerProblems: ledger.length },
    ...(error && { error: { kind: error.kind, message: error.message } }),
  });
  return { state, counts, requests, ledger, ...(error && { error }) };
}
