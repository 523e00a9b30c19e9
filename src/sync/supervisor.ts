import type { ErrorKind } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { claimLeases, type Lease, leaseSituation } from '../store/leases.ts';
import { LockedLeases } from './locked-leases.ts';
import type { Worker, WorkerOptions } from './worker.ts';

/**
 * Keeps the worker's loops in step with the leases until aborted, then drains. With W workers and N connections each
 * holds ⌈N/W⌉ at most: what is above goes back, what is free below is taken (R15). A worker at its share takes and
 * gives nothing, so that nothing moves once all are.
 * @param connections the connections that this deployment replicates, asked anew every time.
 * @param spread the time over which the loops of a start may be spread, in milliseconds.
 * @returns whether everything in hand was finished in time.
 */
export async function supervise(
  worker: Worker,
  options: WorkerOptions,
  connections: () => readonly ConnectionId[],
  spread: number,
  signal: AbortSignal,
): Promise<boolean> {
  const { control, leaseTtl } = options;
  /** Since when there were leases ahead of the clock at every look: a reading of the monotonic clock. */
  let aheadSince = Number.POSITIVE_INFINITY;
  const locked = new LockedLeases(options, (event) => worker.tell(event));
  worker.start(async () => {
    const wanted = connections();
    const set = new Set(wanted);
    for (const id of worker.held) if (!set.has(id)) worker.drop(id);
    if (wanted.length === 0) return;
    const { workers, free, ahead } = await leaseSituation(control, wanted, leaseTtl);
    const now = performance.now();
    aheadSince = ahead === 0 ? Number.POSITIVE_INFINITY : Math.min(aheadSince, now);
    const areDead = now - aheadSince > leaseTtl;
    worker.shareAmong(workers);
    const share = Math.ceil(wanted.length / Math.max(1, workers));
    const room = share - worker.size;
    let passedOver: readonly ConnectionId[] = [];
    if (room < 0) worker.yieldLeases(-room);
    else if (room > 0 && (free > 0 || areDead)) {
      const claimed = await claim(worker, options, wanted, room, areDead, spread);
      if (claimed === 0) passedOver = wanted;
    }
    await locked.passedOver(passedOver);
  });
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  return await worker.stop();
}

/** Failures after which the upstream itself may have asked for the pause (R13): it lasts, whoever has the lease. */
const MAY_BE_ASKED_FOR: ReadonlySet<ErrorKind> = new Set<ErrorKind>([
  'rate_limited',
  'upstream',
  'not_ready',
]);

/** Until a connection's first turn here. After any other failure that is at once: who starts a worker may have mended it. */
function firstIn({ dueIn, failure }: Lease): number {
  return failure === null || MAY_BE_ASKED_FOR.has(failure) ? dueIn : 0;
}

/** Of many that are due at once, one more begins every so often, in milliseconds. */
const START_EVERY = 20;

/** @returns how many leases it got. */
async function claim(
  worker: Worker,
  { control, leaseTtl }: WorkerOptions,
  wanted: readonly ConnectionId[],
  most: number,
  ahead: boolean,
  spread: number,
): Promise<number> {
  const claimedAt = performance.now();
  const held = new Set(worker.held);
  const ids = wanted.filter((id) => !held.has(id));
  const leases = await claimLeases(control, worker.id, ids, leaseTtl, most, ahead);
  // No herd at the start: those that are due begin one after the other, all within one interval.
  const step = Math.min(START_EVERY, spread / Math.max(1, leases.length));
  for (const [place, lease] of leases.entries()) {
    const dueIn = Math.max(firstIn(lease), place * step);
    // A loop ends by itself; it never throws but for a fault of this program, which must not pass unseen.
    worker.adopt({ ...lease, dueIn }, claimedAt).catch((error: unknown) => {
      queueMicrotask(() => {
        throw error;
      });
    });
  }
  return leases.length;
}
