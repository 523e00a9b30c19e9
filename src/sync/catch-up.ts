import pLimit from 'p-limit';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { makeDueUnlessLocked } from '../store/due.ts';
import { claimLeases, type Lease } from '../store/leases.ts';
import { announceDue } from '../store/notify.ts';
import { databaseTime, readProgress } from '../store/progress.ts';
import { HolderWatch } from './holder-watch.ts';
import { LockedLeases } from './locked-leases.ts';
import type { LoopEnd, OncePolicy } from './loop.ts';
import type { Worker, WorkerOptions } from './worker.ts';

/** How one connection's pass ended. */
export interface PassResult {
  readonly connectionId: ConnectionId;
  readonly caughtUp: boolean;
  /** Kind and place of the last failure, where it did not catch up. */
  readonly error?: string;
  /** Whether a running daemon did it. */
  readonly byHolder: boolean;
}

/** The first pause between looks at the holder's progress, and the longest; each is twice the one before. Milliseconds. */
const FIRST_PAUSE = 60;
const LONGEST_PAUSE = 500;

/** What the passes of all connections have in common. */
interface Passes {
  readonly worker: Worker;
  readonly options: WorkerOptions;
  readonly policy: OncePolicy;
  /** One statement at a time: thousands of passes would wait in the pool for longer than it lets them, and the renewals of
   * their leases behind them. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly signal: AbortSignal;
}

interface Claimed {
  readonly lease: Lease;
  /** When it was asked for, by the monotonic clock. */
  readonly claimedAt: number;
}

/**
 * Catches every connection up once. A connection that a running daemon holds is made due and waited for.
 * The worker must have been started.
 * @param onEnd told of each connection when its pass has ended.
 */
export async function catchUp(
  worker: Worker,
  options: WorkerOptions,
  connectionIds: readonly ConnectionId[],
  policy: OncePolicy,
  signal: AbortSignal,
  onEnd: (result: PassResult) => void = () => {},
): Promise<PassResult[]> {
  const passes: Passes = { worker, options, policy, inTurn: pLimit(1), signal };
  const since = await databaseTime(options.control);
  const claimed = await claim(passes, connectionIds);
  const one = async (id: ConnectionId) => {
    const result = await pass(passes, id, since, claimed.get(id));
    onEnd(result);
    return result;
  };
  return await Promise.all(connectionIds.map(one));
}

/** Takes those that are free. @param ahead as `claimLeases` has it. */
async function claim(
  { worker, options: { control, leaseTtl } }: Passes,
  connectionIds: readonly ConnectionId[],
  ahead = false,
): Promise<ReadonlyMap<ConnectionId, Claimed>> {
  const claimedAt = performance.now();
  const most = connectionIds.length;
  const leases = await claimLeases(control, worker.id, connectionIds, leaseTtl, most, ahead);
  return new Map(leases.map((lease) => [lease.connectionId, { lease, claimedAt }]));
}

async function pass(
  passes: Passes,
  connectionId: ConnectionId,
  begun: string,
  first: Claimed | undefined,
): Promise<PassResult> {
  const { worker, options, policy, inTurn, signal } = passes;
  const { control, leaseTtl } = options;
  let claimed = first;
  let asked = false;
  let since = begun;
  const watch = new HolderWatch(policy);
  const locked = new LockedLeases(options, (event) => worker.tell(event));
  const begunAt = performance.now();
  for (let pause = FIRST_PAUSE; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    // Who lives has renewed its leases by then.
    const ahead = () => performance.now() - begunAt > leaseTtl;
    claimed ??= await inTurn(async () => (await claim(passes, [connectionId], ahead())).get(connectionId));
    if (claimed !== undefined) {
      const { lease, claimedAt } = claimed;
      claimed = undefined;
      const end = await untilTold(worker, connectionId, signal, () =>
        worker.adopt({ ...lease, failures: 0 }, claimedAt, policy),
      );
      if (end === 'caught_up') return { connectionId, caughtUp: true, byHolder: false };
      if (end === 'gave_up' || signal.aborted) return await failed(passes, connectionId, since, false);
      continue;
    }
    const progress = await inTurn(async () => {
      if (!asked) {
        // A row that is locked is come back to: an erasure may have it for longer than a statement may last.
        asked = (await makeDueUnlessLocked(control, [connectionId])).length === 0;
        // Heard at once by whoever holds it, which otherwise sees it at its next renewal.
        if (asked) await announceDue(control, [connectionId]);
      }
      await locked.passedOver(asked ? [] : [connectionId]);
      return await readProgress(control, connectionId, since);
    });
    if (progress?.caughtUp === true) return { connectionId, caughtUp: true, byHolder: true };
    if (progress?.putBack === true) {
      since = await inTurn(() => databaseTime(control));
      asked = false;
      continue;
    }
    if (watch.isHopeless(progress) || signal.aborted) return await failed(passes, connectionId, since, true);
    await sleep(pause, signal);
  }
}

/** Runs a loop of the worker's; whoever is told to end gives it back after the page in hand. */
async function untilTold(
  worker: Worker,
  connectionId: ConnectionId,
  signal: AbortSignal,
  run: () => Promise<LoopEnd>,
): Promise<LoopEnd> {
  const drop = () => worker.drop(connectionId);
  const done = run();
  if (signal.aborted) drop();
  signal.addEventListener('abort', drop, { once: true });
  try {
    return await done;
  } finally {
    signal.removeEventListener('abort', drop);
  }
}

async function failed(
  { options, inTurn }: Passes,
  connectionId: ConnectionId,
  since: string,
  byHolder: boolean,
): Promise<PassResult> {
  const progress = await inTurn(() => readProgress(options.control, connectionId, since));
  const error = progress?.lastErrorKind ? `${progress.lastErrorKind}: ${progress.lastError}` : 'interrupted';
  return { connectionId, caughtUp: false, error, byHolder };
}
