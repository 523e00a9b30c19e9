import { createHash } from 'node:crypto';
import type { Kysely } from 'kysely';
import { entityOf } from '../entities.ts';
import type { ConnectionId, Kind, Tally } from '../model.ts';
import { emptyTally, OUTCOMES } from '../model.ts';
import { quarantine, supersede } from '../store/quarantine.ts';
import type { History } from '../store/revisions.ts';
import type { Database } from '../store/schema.ts';
import {
  advance,
  limitTransaction,
  lockState,
  type Position,
  type TransactionLimits,
} from '../store/state.ts';
import { upsert } from '../store/upsert.ts';
import type { Page } from '../upstream/page.ts';
import type { Changes } from './normalise.ts';

/** What `apply` needs to know beside the page. */
export interface ApplyContext {
  readonly db: Kysely<Database>;
  readonly worker: string;
  readonly leaseTtl: number;
  readonly limits: TransactionLimits;
  readonly history: History;
}

/** How the turn goes on after this page. Times in milliseconds. */
export interface Timing {
  /** A reading of the monotonic clock when the request began. */
  readonly requestedAt: number;
  /** Until the next poll where this page ends the backlog, by whether it changed anything. */
  readonly nextPollIn: (changed: boolean) => number;
}

export type Applied =
  | { readonly done: true; readonly tally: Readonly<Record<Kind, Tally>>; readonly quarantined: number }
  /** The cursor is another's, or the lease is. Nothing was written; `now` is what is stored. */
  | { readonly done: false; readonly now: Position | undefined };

/**
 * Writes a page: its rows, its quarantined records, its ledger row and the new cursor commit together or not at
 * all (R1). The only place that opens a page's transaction.
 * @throws what Postgres throws; nothing is written then.
 */
export async function apply(
  context: ApplyContext,
  connectionId: ConnectionId,
  at: Position,
  page: Page,
  changes: Changes,
  timing: Timing,
): Promise<Applied> {
  try {
    return await context.db.transaction().execute(async (trx) => {
      await limitTransaction(trx, context.limits);
      const state = await lockState(trx, connectionId);
      if (!isSame(state, at)) throw new Fenced(state);
      const target = { connectionId, numbering: at.numbering, history: context.history };
      const tally = { conversation: emptyTally(), contact: emptyTally(), message: emptyTally() };
      for (const batch of changes.batches) {
        const entity = entityOf(batch.kind);
        const counts = await upsert(trx, entity, batch.rows, target, batch.partial);
        for (const outcome of OUTCOMES) tally[batch.kind][outcome] += counts[outcome];
        if (state.hasQuarantine) {
          const records = batch.rows.map((row) => ({
            id: row[entity.key] as string,
            version: row[entity.version] as string,
          }));
          await supersede(trx, batch.kind, records, connectionId, at.numbering);
        }
      }
      if (changes.rejects.length > 0) {
        const origin = { connectionId, numbering: at.numbering, from: page.from, to: page.cursor };
        await quarantine(trx, changes.rejects, origin);
      }
      const changed = hasChanged(tally) || changes.rejects.length > 0;
      const move = {
        to: page.cursor,
        requestedAgo: performance.now() - timing.requestedAt,
        caughtUp: !page.hasMore,
        changed,
        inserted: {
          conversations: tally.conversation.inserted,
          contacts: tally.contact.inserted,
          messages: tally.message.inserted,
        },
        nextPollIn: page.hasMore ? 0 : timing.nextPollIn(changed),
        leaseTtl: context.leaseTtl,
      };
      const ledger = {
        hasMore: page.hasMore,
        conversations: changes.came.conversation,
        contacts: changes.came.contact,
        messages: changes.came.message,
        quarantined: changes.rejects.length,
        bodySha256: createHash('sha256').update(page.body).digest('hex'),
        worker: context.worker,
      };
      if (!(await advance(trx, connectionId, at, move, ledger))) throw new Fenced(state);
      return { done: true as const, tally, quarantined: changes.rejects.length };
    });
  } catch (error) {
    if (error instanceof Fenced) return { done: false, now: error.now };
    throw error;
  }
}

/** Rolls the page's transaction back. */
class Fenced extends Error {
  readonly now: Position | undefined;
  constructor(now: Position | undefined) {
    super('fenced');
    this.now = now;
  }
}

function isSame(state: Position | undefined, at: Position): state is Position & { hasQuarantine: boolean } {
  return (
    state !== undefined && state.epoch === at.epoch && state.cursor === at.cursor && state.term === at.term
  );
}

function hasChanged(tally: Readonly<Record<Kind, Tally>>): boolean {
  return Object.values(tally).some((counts) => counts.inserted + counts.updated + counts.amended > 0);
}
