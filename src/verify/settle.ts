import { type ErrorKind, ReplicaError } from '../errors/errors.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { makeDueUnlessLocked } from '../store/due.ts';
import { databaseTime, type Progress, readProgress } from '../store/progress.ts';
import { catchUp } from '../sync/catch-up.ts';
import { HolderWatch } from '../sync/holder-watch.ts';
import type { OncePolicy } from '../sync/loop.ts';
import type { Worker, WorkerOptions } from '../sync/worker.ts';
import { leaseLost } from './lease.ts';

/** Failures in a row after which a connection is not waited for any more. */
const POLICY: OncePolicy = { maxFailures: 5 };

/** How often the loop's progress is looked at, in milliseconds. */
const LOOK_EVERY = 20;

/**
 * Has a connection replicate everything that changed until now: by its loop where this worker has it, else by a pass,
 * which waits for whoever has it.
 * @throws ReplicaError with the failure that keeps it from catching up; the signal's reason.
 */
export async function settle(
  worker: Worker,
  options: WorkerOptions,
  connectionId: ConnectionId,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { control } = options;
  let since = await databaseTime(control);
  const watch = new HolderWatch(POLICY);
  if (worker.holds(connectionId)) {
    for (let asked = false; ; await sleep(LOOK_EVERY, signal)) {
      signal.throwIfAborted();
      if (!worker.holds(connectionId)) throw leaseLost();
      if (!asked) {
        // Noted, too, so that a turn that is under way does not pass for one that came of this.
        asked = (await makeDueUnlessLocked(control, [connectionId])).length === 0;
        worker.wake(connectionId);
      }
      const progress = await readProgress(control, connectionId, since);
      if (progress?.caughtUp === true) return;
      if (progress?.putBack === true) {
        since = await databaseTime(control);
        asked = false;
        continue;
      }
      if (watch.isHopeless(progress)) throw failureOf(progress);
    }
  }
  const [result] = await catchUp(worker, options, [connectionId], POLICY, signal);
  signal.throwIfAborted();
  if (result?.caughtUp !== true) throw failureOf(await readProgress(control, connectionId, since));
}

function failureOf(progress: Progress | undefined): ReplicaError {
  if (progress === undefined)
    return new ReplicaError('not_found', { where: 'the connection is not known here' });
  const { lastErrorKind, lastError } = progress;
  if (lastErrorKind === null)
    return new ReplicaError('timeout', { where: 'catching up did not come to its end' });
  return new ReplicaError(lastErrorKind as ErrorKind, { where: `catching up: ${lastError}` });
}
