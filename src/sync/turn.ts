import type { LimitFunction } from 'p-limit';
import { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { Position } from '../store/state.ts';
import type { Answer } from '../upstream/page.ts';
import { type Applied, type ApplyContext, apply } from './apply.ts';
import type { Fetched, Fetcher } from './fetcher.ts';

export interface Turn extends Fetched {
  readonly applied: Applied;
  /** Milliseconds. */
  readonly applyTook: number;
}

export interface TurnContext extends ApplyContext {
  /** Pages written at a time: no more than there are connections to Postgres, so that none waits for one in vain. */
  readonly writes: LimitFunction;
}

/** What a turn is told by its loop. */
export interface TurnPlan {
  /** Until the next poll where this page ends the backlog, in milliseconds, by whether it changed anything. */
  readonly nextPollIn: (changed: boolean) => number;
  /** Told at every step: true where it has begun and should end soon, false where it waits for room. */
  readonly progress: (due: boolean) => void;
  /** Throws where a page is not to be written. */
  readonly refuse: (page: Answer) => Promise<void>;
}

/**
 * The main job, once: fetch a page, check it, write it, move the cursor. The next page is fetched meanwhile.
 * @throws ReplicaError where the page could not be had or stored; the stored position is as it was then.
 */
export async function turn(
  context: TurnContext,
  fetcher: Fetcher,
  connectionId: ConnectionId,
  at: Position,
  plan: TurnPlan,
  signal: AbortSignal,
): Promise<Turn> {
  const { nextPollIn, progress, refuse } = plan;
  const fetched = await fetcher.take(at, progress, signal);
  const { page, changes, requestedAt } = fetched;
  context.reached('fetched');
  try {
    await refuse(page);
    const sent = fetcher.holdBack();
    if (page.hasMore && page.cursor !== page.from) fetcher.prefetch(page, signal);
    const startedAt = performance.now();
    const told = { requestedAt, nextPollIn, sent };
    progress(false);
    const applied = await context.writes(() => {
      progress(true);
      return apply(context, connectionId, at, page, changes, told);
    });
    if (!applied.done) fetcher.drop();
    return { ...fetched, applied, applyTook: performance.now() - startedAt };
  } catch (error) {
    fetcher.drop();
    throw ReplicaError.from('internal', error, 'writing a page');
  } finally {
    fetched.held.release();
  }
}
