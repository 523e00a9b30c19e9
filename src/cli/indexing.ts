import { ReplicaError } from '../errors/errors.ts';
import { jitter } from '../lib/backoff.ts';
import { sleep } from '../lib/wait.ts';
import { errorFields, type Logger } from '../ops/logger.ts';
import type { Replica } from '../replica/replica.ts';
import { tendIndexes } from '../store/indexes.ts';

/** Pauses between attempts, each twice the one before, in milliseconds. */
export interface IndexingPauses {
  readonly first: number;
  readonly longest: number;
}

const PAUSES: IndexingPauses = { first: 60_000, longest: 3_600_000 };

/**
 * Builds large indexes that are missing, and drops those that are not wanted, beside the replication, where this role
 * migrates: until all that are wanted stand, or until the signal. A server that goes away in mid-build, or another
 * process that was at them and died, leaves them to the next attempt.
 */
export async function indexing(
  { settings, maintenance }: Pick<Replica, 'settings' | 'maintenance'>,
  log: Logger,
  signal: AbortSignal,
  { first, longest }: IndexingPauses = PAUSES,
): Promise<void> {
  if (!settings.MIGRATE_ON_START) return;
  let told = false;
  for (let pause = first; !signal.aborted; pause = Math.min(2 * pause, longest)) {
    try {
      const wants = { search: settings.SEARCH };
      const { built, dropped, left, obstacle } = await tendIndexes(
        maintenance,
        settings.WA_REPLICA_SCHEMA,
        wants,
      );
      if (built.length > 0) log.info({ indexes: built }, 'indexes built');
      if (dropped.length > 0) log.info({ indexes: dropped }, 'indexes dropped');
      if (obstacle !== undefined && !told)
        log.warn({ hint: obstacle.hint }, 'parts of words have no index: pg_trgm cannot be created');
      told ||= obstacle !== undefined;
      if (left.length === 0) return;
    } catch (cause) {
      if (signal.aborted) return;
      const error = ReplicaError.from('internal', cause, 'building indexes');
      log.warn({ ...errorFields(error), retry_in_ms: pause }, 'cannot build or drop indexes');
    }
    await sleep(jitter(pause), signal);
  }
}
