import { type Kysely, sql } from 'kysely';
import { refusesData } from '../errors/errors.ts';
import { type ConnectionId, emptyTally, type Kind, type Reject, type Tally } from '../model.ts';
import { advance, type Gap, notePoll, type Polled } from '../store/advance.ts';
import { quarantine } from '../store/quarantine.ts';
import type { Database } from '../store/schema.ts';
import { isAt, lockState, type Position } from '../store/state.ts';
import { inTransaction, type Plans, type TransactionLimits } from '../store/transaction.ts';
import type { Answer } from '../upstream/page.ts';
import type { Reached } from './crash-points.ts';
import type { Suppressed } from './judge.ts';
import type { Changes } from './normalise.ts';
import { Suppression } from './suppression.ts';
import { hasChanged, resolveSuperseded, type Writing, write } from './write.ts';

/** What `apply` needs to know beside the page. */
export interface ApplyContext extends Writing {
  readonly db: Kysely<Database>;
  readonly worker: string;
  /** Milliseconds. */
  readonly leaseTtl: number;
  /** The upstream's memory, RETENTION_WINDOW, in milliseconds. */
  readonly window: number;
  readonly limits: TransactionLimits;
  readonly reached: Reached;
}

/** What `apply` is told of the turn. Times in milliseconds. */
export interface ApplyPlan {
  /** A reading of the monotonic clock when the request began. */
  readonly requestedAt: number;
  /** Until the next poll where this page ends the backlog, by whether it changed anything. */
  readonly nextPollIn: (changed: boolean) => number;
  /** Told when the rows are on their way to Postgres, which leaves this process with nothing to do for a while. */
  readonly sent?: () => void;
}

export type Applied =
  | {
      readonly done: true;
      readonly tally: Readonly<Record<Kind, Tally>>;
      readonly rejects: readonly Reject[];
      /** Records that came and were not to be written (R20). */
      readonly suppressed: Suppressed;
      /** What the upstream forgot before this page ended the backlog. */
      readonly gap: Gap | undefined;
    }
  /** The cursor is another's, or the lease is. Nothing was written; `now` is what is stored. */
  | { readonly done: false; readonly now: Position | undefined };

/**
 * Writes a page: its rows, its quarantined records, its ledger row and the new cursor commit together or not at
 * all (R1). The only place that opens a page's transaction. Where Postgres refuses a record, the page is written
 * once more, carefully: the record is found by halving and quarantined, everything else is written (R9). A third time
 * where a deferred check refuses it at the commit, behind all savepoints.
 * @throws what Postgres throws for any other reason; nothing is written then.
 */
export async function apply(
  context: ApplyContext,
  connectionId: ConnectionId,
  at: Position,
  page: Answer,
  changes: Changes,
  plan: ApplyPlan,
): Promise<Applied> {
  if (page.cursor === at.cursor && changes.batches.length === 0 && changes.rejects.length === 0) {
    return await poll(context, connectionId, at, page, changes, plan);
  }
  for (const care of ['none', 'savepoints'] as const) {
    try {
      return await attempt(context, connectionId, at, page, changes, plan, care);
    } catch (error) {
      if (!refusesData(error)) throw error;
    }
  }
  return await attempt(context, connectionId, at, page, changes, plan, 'checks at once');
}

/** How a page is written. `savepoints`: so that a record that Postgres refuses can be found. `checks at once`: likewise, with
 * no check deferred to the commit; not before it must be, for one that others have deferred may hold at the page's end only. */
type Care = 'none' | 'savepoints' | 'checks at once';

/** Notes a poll that brought nothing. Only what is more than that takes a page's transaction. */
async function poll(
  context: ApplyContext,
  connectionId: ConnectionId,
  at: Position,
  page: Answer,
  changes: Changes,
  plan: ApplyPlan,
): Promise<Applied> {
  const nextPollIn = page.hasMore ? 0 : plan.nextPollIn(false);
  // The time since the request is taken once there is a connection: it may be waited for.
  const noted = await context.db
    .connection()
    .execute((db) => notePoll(db, connectionId, at, polled(context, page, plan, nextPollIn)));
  if (!noted) {
    const counted = { ...plan, nextPollIn: () => nextPollIn };
    return await attempt(context, connectionId, at, page, changes, counted, 'none');
  }
  context.reached('committed');
  const tally = { conversation: emptyTally(), contact: emptyTally(), message: emptyTally() };
  return { done: true, tally, rejects: [], suppressed: NONE, gap: undefined };
}

/** @param nextPollIn milliseconds. */
function polled(
  { leaseTtl, window }: ApplyContext,
  { hasMore }: Answer,
  { requestedAt }: ApplyPlan,
  nextPollIn: number,
): Polled {
  return { requestedAgo: performance.now() - requestedAt, caughtUp: !hasMore, nextPollIn, leaseTtl, window };
}

async function attempt(
  context: ApplyContext,
  connectionId: ConnectionId,
  at: Position,
  page: Answer,
  changes: Changes,
  plan: ApplyPlan,
  care: Care,
): Promise<Applied> {
  const { numbering } = at;
  const plans = plansOf(changes);
  try {
    const applied = await inTransaction(context.db, { ...context.limits, plans }, async (trx) => {
      const state = await lockState(trx, connectionId, plans);
      if (state === undefined || !isAt(state, at)) throw new Fenced(state);
      if (care === 'checks at once') await sql`set constraints all immediate`.execute(trx);
      const { history, changes: told, media, forgetting } = context;
      const target = { connectionId, numbering, history, changes: told, media };
      const suppression = Suppression.of(trx, connectionId, state, forgetting);
      const { sent } = plan;
      const written = await write(trx, changes.batches, target, {
        carefully: care !== 'none',
        suppression,
        ...(sent && { sent }),
      });
      const { tally, refused } = written;
      const came = (await suppression?.rejects(changes.rejects)) ?? changes.rejects;
      const rejects = refused.length === 0 ? came : [...came, ...refused];
      if (rejects.length > 0) {
        await quarantine(trx, rejects, { connectionId, numbering, from: page.from, to: page.cursor });
      }
      if (state.hasQuarantine || rejects.length > 0) await resolveSuperseded(trx, written, target);
      context.reached('rows_written');
      const changed = hasChanged(tally) || rejects.length > 0;
      const move = {
        ...polled(context, page, plan, page.hasMore ? 0 : plan.nextPollIn(changed)),
        to: page.cursor,
        changed,
        untold: !context.changes && hasChanged(tally),
        inserted: {
          conversations: tally.conversation.inserted,
          contacts: tally.contact.inserted,
          messages: tally.message.inserted,
        },
      };
      const ledger = {
        conversations: changes.came.conversation,
        contacts: changes.came.contact,
        messages: changes.came.message,
        quarantined: rejects.length,
        bodySha256: changes.bodySha256,
        worker: context.worker,
      };
      const moved = await advance(trx, connectionId, at, move, ledger);
      if (moved === false) throw new Fenced(state);
      context.reached('before_commit');
      const suppressed = suppression?.counts ?? NONE;
      return { done: true as const, tally, rejects, suppressed, gap: moved.gap };
    });
    context.reached('committed');
    return applied;
  } catch (error) {
    if (error instanceof Fenced) return { done: false, now: error.now };
    throw error;
  }
}

function plansOf({ batches }: Changes): Plans {
  return batches.every(({ kind }) => kind === 'message') ? 'kept where large' : 'anew';
}

const NONE: Suppressed = { erased: 0, expired: 0 };

/** Rolls the page's transaction back. */
class Fenced extends Error {
  readonly now: Position | undefined;
  constructor(now: Position | undefined) {
    super('fenced');
    this.now = now;
  }
}
