import { ReplicaError } from '../errors.ts';
import type { Reservation } from '../lib/byte-budget.ts';
import type { ConnectionId } from '../model.ts';
import type { Position } from '../store/state.ts';
import type { ApiKey, UpstreamClient } from '../upstream/client.ts';
import type { Page } from '../upstream/page.ts';
import { type Applied, type ApplyContext, apply } from './apply.ts';
import { type Changes, normalise } from './normalise.ts';
import type { PageLimit } from './page-limit.ts';
import { WENT_BACK } from './recovery.ts';

export interface TurnContext extends ApplyContext {
  readonly upstream: UpstreamClient;
}

export interface Turn {
  readonly page: Page;
  readonly changes: Changes;
  readonly applied: Applied;
  readonly requestTook: number;
  readonly applyTook: number;
}

/**
 * The main job, once: fetch a page, check it, write it, move the cursor.
 * @param held the bytes that the answer may take of the process-wide budget.
 * @param nextPollIn until the next poll where this page ends the backlog, in milliseconds, by whether it changed anything.
 * @throws ReplicaError where the page could not be had or stored; the stored position is as it was then.
 */
export async function turn(
  context: TurnContext,
  key: ApiKey,
  connectionId: ConnectionId,
  at: Position,
  limit: PageLimit,
  held: Reservation,
  nextPollIn: (changed: boolean) => number,
  signal: AbortSignal,
): Promise<Turn> {
  const requestedAt = performance.now();
  const admits = (bytes: number) => bytes <= limit.maxBytes && held.extend(bytes);
  const page = await context.upstream.fetchPage(key, connectionId, at.cursor, limit.current, admits, signal);
  const fetchedAt = performance.now();
  refuseBackwards(page);
  const changes = normalise(page);
  context.reached('fetched');
  try {
    const applied = await apply(context, connectionId, at, page, changes, { requestedAt, nextPollIn });
    const doneAt = performance.now();
    return { page, changes, applied, requestTook: fetchedAt - requestedAt, applyTook: doneAt - fetchedAt };
  } catch (error) {
    throw ReplicaError.from('database', error, 'writing a page');
  }
}

/** A cursor lower than the one sent is never applied (R6). */
function refuseBackwards(page: Page): void {
  if (page.cursor < page.from) {
    throw new ReplicaError('protocol', {
      where: 'the answer has a lower cursor than the one sent',
      code: WENT_BACK,
    });
  }
}
