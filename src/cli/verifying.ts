import type { Replica } from '../replica/replica.ts';
import { writingOf } from '../replica/writing.ts';
import { Lists } from '../upstream/lists.ts';
import type { VerifyContext } from '../verify/context.ts';
import { VerifyPace } from '../verify/pace.ts';
import { settle } from '../verify/settle.ts';

/** How long a verification waits before it looks again, in milliseconds: the stream of changes may be behind the lists. */
const LOOK_AGAIN_AFTER = 1_000;

/** How far the lists may be behind the stream, in milliseconds. Nothing is known of it, and a contact has no version that
 * would tell: an older list must not be taken for the truth. */
const LISTS_BEHIND = 60_000;

/** How long a verification waits to keep its place, in milliseconds: a shutdown waits no longer for it. */
const NOTE_PATIENCE = 1_000;

/** Wires verifications to the replica. */
export function verifyContext(replica: Replica): VerifyContext {
  const { settings, db, maintenance, upstream, directory, admission, worker, workerOptions, limits } =
    replica;
  return {
    db,
    maintenance,
    lists: new Lists(upstream),
    admission,
    pace: new VerifyPace(settings.VERIFY_RATE, () => admission.processes),
    keyOf: (connectionId) => directory.keyOf(connectionId),
    pageLimit: settings.PAGE_LIMIT,
    pageLimitMax: settings.PAGE_LIMIT_MAX,
    maxResponseBytes: settings.MAX_RESPONSE_BYTES,
    backoff: { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX },
    limits,
    ...writingOf(settings),
    window: settings.RETENTION_WINDOW,
    notePatience: NOTE_PATIENCE,
    listsBehind: LISTS_BEHIND,
    lookAgainAfter: LOOK_AGAIN_AFTER,
    settle: (connectionId, signal) => settle(worker, workerOptions, connectionId, signal),
  };
}
