import { Command } from 'commander';
import { parks, ReplicaError } from '../errors.ts';
import { backoff } from '../lib/backoff.ts';
import { sleep } from '../lib/wait.ts';
import { eventLog } from '../ops/event-log.ts';
import { errorFields, type Logger } from '../ops/logger.ts';
import { startUpkeep } from '../ops/upkeep.ts';
import { findConnections, prepareSchema, type Replica } from '../replica.ts';
import { supervise } from '../sync/supervisor.ts';
import { VERSION } from '../version.ts';
import { EMBEDDED_DIR, type EmbeddedOption, withReplica } from './session.ts';
import type { Terminal } from './terminal.ts';

/** How long `run` waits for Postgres to come up, in milliseconds; whoever supervises it starts it again then. */
const PATIENCE = 60_000;

/** `wa-replica run`: the daemon. */
export function runCommand(terminal: Terminal): Command {
  return new Command('run')
    .description('the daemon: migrates, leases connections, replicates until SIGTERM or SIGINT')
    .option(
      '--embedded [dir]',
      `into a Postgres of its own in dir (${EMBEDDED_DIR}), to try it with only an API key`,
    )
    .action(async (options: EmbeddedOption) => {
      const listen = (log: Logger) => eventLog(log);
      await withReplica(terminal, { ...options, needsUpstream: true, listen }, (replica, log) =>
        run(replica, log, terminal.signal),
      );
    });
}

/** The daemon's life, from the schema to the drain. Aborting the signal ends it well. */
export async function run(replica: Replica, log: Logger, signal: AbortSignal): Promise<void> {
  const { settings, worker, workerOptions, directory, db } = replica;
  log.info({ version: VERSION, worker: worker.id, pid: process.pid }, 'starting');
  try {
    const onWaiting = (what: string) => log.info({ for: what }, 'waiting');
    const options = { migrate: settings.MIGRATE_ON_START, patience: PATIENCE, onWaiting };
    const migrations = await prepareSchema(replica, options, signal);
    if (migrations.length > 0) log.info({ migrations }, 'schema migrated');
    await connectionsFound(replica, log, signal);
  } catch (error) {
    // Asked to stop before there was anything to stop.
    if (signal.aborted) return;
    throw error;
  }
  log.info({ connections: directory.connections.length }, 'replicating');
  const upkeep = startUpkeep(db, log);
  try {
    const finished = await supervise(worker, workerOptions, () => directory.connections, signal);
    log[finished ? 'info' : 'warn'](finished ? 'stopped' : 'stopped, dropping the page in hand');
  } finally {
    await upkeep.stop();
  }
}

/** Waits until the connections are known; an upstream that refuses the key or is down is asked again and again. */
async function connectionsFound(replica: Replica, log: Logger, signal: AbortSignal): Promise<void> {
  const { settings } = replica;
  const bounds = { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX };
  for (let failures = 0; ; failures++) {
    try {
      return await findConnections(replica, signal);
    } catch (cause) {
      if (signal.aborted) throw cause;
      const error =
        cause instanceof ReplicaError ? cause : ReplicaError.from('database', cause, 'reading connections');
      const retryIn = parks(error.kind) ? bounds.max : backoff(failures, bounds, error.retryAfter);
      log.error({ ...errorFields(error), retry_in_ms: Math.round(retryIn) }, 'cannot find the connections');
      await sleep(retryIn, signal);
      signal.throwIfAborted();
    }
  }
}
