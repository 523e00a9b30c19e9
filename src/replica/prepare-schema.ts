import pRetry from 'p-retry';
import { ConfigError } from '../config/load.ts';
import { codeOf, mayPass, ReplicaError } from '../errors/errors.ts';
import { unlessAborted } from '../lib/wait.ts';
import { type Hazard, hazards } from '../store/hazards.ts';
import { mendLeftovers } from '../store/mends.ts';
import { migrate, requireCurrentSchema } from '../store/migrator.ts';
import { requireSight } from '../store/row-security.ts';
import { requireFit } from '../store/server.ts';
import type { Replica } from './replica.ts';
import { requireErasureKey } from './writing.ts';

/**
 * Brings the schema up to date, or checks that it is, and that the key of the erasures is there. A server that is not up
 * yet, or goes away meanwhile, is waited for.
 * @param onHazard called for each.
 * @param onMended told of what copying or renaming had left, once it is mended.
 * @param patience how long without it, in milliseconds.
 * @returns the migrations that were run.
 * @throws ReplicaError `database` where the server cannot be used, `database_unfit` where it never can; the schema's
 * errors of `migrator.ts`. ConfigError where ERASURE_KEY is not that of the erasures.
 */
export async function prepareSchema(
  replica: Replica,
  options: {
    migrate: boolean;
    patience: number;
    onWaiting: (what: string) => void;
    onHazard?: (hazard: Hazard) => void;
    onMended?: (what: string) => void;
  },
  signal: AbortSignal,
): Promise<string[]> {
  const { maintenance: db, settings } = replica;
  const schema = settings.WA_REPLICA_SCHEMA;
  const { patience } = options;
  const migrations: string[] = [];
  const passes = (error: unknown) => !(error instanceof ConfigError) && mayPass(error);
  let since = performance.now();
  let attemptAt = since;
  let served = false;
  const prepare = async () => {
    attemptAt = performance.now();
    served = false;
    await requireFit(db);
    await requireSight(db, schema);
    if (options.migrate) {
      const onWaiting = (what: string) => {
        served = true;
        options.onWaiting(what);
      };
      const reached = () => {
        served = true;
        replica.reached('migrating');
      };
      migrations.push(...(await migrate(db, schema, onWaiting, reached)));
    } else await requireCurrentSchema(db, schema);
    await requireErasureKey(replica);
    for (const what of await mendLeftovers(db, schema)) options.onMended?.(what);
    if (options.onHazard) for (const hazard of await hazards(db)) options.onHazard(hazard);
  };
  const trying = pRetry(prepare, {
    signal,
    retries: Number.POSITIVE_INFINITY,
    minTimeout: 250,
    maxTimeout: 5_000,
    shouldRetry: ({ error }) => passes(error) && performance.now() - since < patience,
    onFailedAttempt: ({ error, attemptNumber }) => {
      // It was there, perhaps for hours: that is no time without it.
      if (served) since += performance.now() - attemptAt;
      if (attemptNumber === 2 && passes(error)) options.onWaiting(`Postgres (${codeOf(error)})`);
    },
  });
  try {
    // A lock may be waited for however long; whoever is asked to stop does not wait for it.
    await unlessAborted(trying, signal);
    return migrations;
  } catch (error) {
    if (signal.aborted || error instanceof ReplicaError || error instanceof ConfigError) throw error;
    throw ReplicaError.from('internal', error, 'preparing the schema');
  }
}
