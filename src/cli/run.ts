import { Command } from 'commander';
import type { Settings } from '../config/settings.ts';
import { ReplicaError } from '../errors/errors.ts';
import { sleep, unlessAborted } from '../lib/wait.ts';
import { eventLog } from '../ops/event-log.ts';
import { overdue, summary } from '../ops/health.ts';
import { errorFields, type Logger } from '../ops/logger.ts';
import { MemoryAtRest } from '../ops/memory-at-rest.ts';
import type { Metrics } from '../ops/metrics.ts';
import { SchemaWatch } from '../ops/schema-watch.ts';
import { createNotifier, Service } from '../ops/systemd.ts';
import { Upkeep } from '../ops/upkeep.ts';
import type { WindowWatch } from '../ops/window-watch.ts';
import { prepareSchema } from '../replica/prepare-schema.ts';
import type { Replica } from '../replica/replica.ts';
import type { Hazard } from '../store/hazards.ts';
import { requireKnownSchema } from '../store/migrator.ts';
import { requireSight } from '../store/row-security.ts';
import { discover } from '../sync/discovery.ts';
import { pauseAfter } from '../sync/pace.ts';
import { supervise } from '../sync/supervisor.ts';
import { VERSION } from '../version.ts';
import { openArchive } from './archiving.ts';
import { endAnyway } from './ending.ts';
import { indexing } from './indexing.ts';
import { tellOf, upkeepJobs } from './jobs.ts';
import { listening } from './listening.ts';
import { healthOptions, serveHttp, windowWatch } from './serving.ts';
import { EMBEDDED_DIR, type EmbeddedOption, withReplica } from './session.ts';
import type { Terminal } from './terminal.ts';
import {
  type Bell,
  changeListener,
  discoveryListener,
  gapListener,
  mediaListener,
  metricsOf,
  severalListeners,
  type Watchers,
} from './watchers.ts';

/** How long `run` waits for Postgres to come up, in milliseconds; whoever supervises it starts it again then. */
const PATIENCE = 60_000;

/** How long the store of attachments may take to close, in milliseconds: a part of the process's last moments. */
const CLOSE_TIMEOUT = 300;

/** `wa-replica run`: the daemon. */
export function runCommand(terminal: Terminal): Command {
  return new Command('run')
    .description('the daemon: migrates, leases connections, replicates until SIGTERM or SIGINT')
    .option(
      '--embedded [dir]',
      `into a Postgres of its own in dir (${EMBEDDED_DIR}), to try it with only an API key`,
    )
    .action(async (options: EmbeddedOption) => {
      let started: Replica | undefined;
      let metrics: Metrics | undefined;
      const schema = new SchemaWatch();
      const rest = new MemoryAtRest();
      rest.watch(terminal.signal);
      const gaps: Bell = { ring: () => {} };
      const media: Bell = { ring: () => {} };
      const listen = (log: Logger, settings: Settings) => {
        metrics = metricsOf(settings);
        const others = [
          metrics.listen,
          schema.listen,
          rest.listen,
          discoveryListener(() => started!, terminal.signal),
          gapListener(gaps),
          mediaListener(media),
          ...(settings.CHANGES ? [changeListener(() => started!, log, terminal.signal)] : []),
        ];
        return severalListeners(eventLog(log), ...others);
      };
      const needs = { ...options, needsUpstream: true, ends: 'itself' as const, listen };
      await withReplica(terminal, needs, async (replica, log, signal) => {
        started = replica;
        // The server that runs with it ends after it, and takes the time that it needs.
        if (options.embedded === undefined) endAnyway(terminal.signal, replica.settings.SHUTDOWN_TIMEOUT);
        await run(replica, log, signal, { metrics: metrics!, schema, gaps, media });
      });
    });
}

/**
 * The daemon's life, from the schema to the drain. Aborting the signal ends it well.
 * @throws ReplicaError after a drain: `schema_newer` where the schema has moved on under it, `database_unfit` where rows
 * are hidden from its role since.
 */
export async function run(
  replica: Replica,
  log: Logger,
  signal: AbortSignal,
  watchers: Watchers = {
    ...{ metrics: metricsOf(replica.settings), schema: new SchemaWatch() },
    ...{ gaps: { ring: () => {} }, media: { ring: () => {} } },
  },
): Promise<void> {
  const { worker } = replica;
  log.info({ version: VERSION, worker: worker.id, pid: process.pid }, 'starting');
  // Without a lease it is on standby only once it has looked for one; the second look comes after the first has ended.
  let looks = 0;
  const window = windowWatch(replica, log);
  const settled = () => worker.size > 0 || looks > 1;
  const health = healthOptions(replica, settled, window);
  const service = new Service(createNotifier(process.env, log), {
    healthy: () => overdue(health).length === 0,
    status: () => (settled() ? summary(health) : 'looking for connections'),
  });
  // First of all: whoever looks while Postgres or the upstream is waited for must get an answer.
  const http = await serveHttp(replica, health, watchers.metrics, log);
  try {
    let told = 0;
    const onLook = () => {
      looks++;
      // Not only with the next sign of life: `systemctl status` is what one looks at after a start.
      if (worker.size !== told) service.tell();
      told = worker.size;
    };
    await replicate(replica, { ...watchers, service, window, onLook }, log, signal);
  } finally {
    service.end();
    await http?.close();
  }
}

interface Parts extends Watchers {
  readonly service: Service;
  readonly window: WindowWatch;
  readonly onLook: () => void;
}

async function replicate(
  replica: Replica,
  { metrics, service, schema, gaps, media, window, onLook }: Parts,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const { settings, worker, workerOptions, directory, discovery, control, looks } = replica;
  try {
    const onWaiting = (what: string) => log.info({ for: what }, 'waiting');
    const onHazard = (hazard: Hazard) => tellOf(hazard, log);
    const onMended = (what: string) => log.warn({ what }, 'mended what a copy left');
    const options = { migrate: settings.MIGRATE_ON_START, patience: PATIENCE, onWaiting, onHazard, onMended };
    service.starting();
    const migrations = await prepareSchema(replica, options, signal);
    if (migrations.length > 0) log.info({ migrations }, 'schema migrated');
    // Up from here on: an upstream that does not answer is waited for.
    await service.ready();
    await unlessAborted(connectionsFound(replica, log, signal), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    // There is nothing to finish yet.
    log.info('stopped');
    return;
  }
  log.info({ connections: directory.connections.length }, 'replicating');
  const outdated = new AbortController();
  const ending = AbortSignal.any([signal, outdated.signal]);
  const archiving = await openArchive(replica, metrics.listenToMedia, log);
  media.ring = () => archiving?.archive.wake();
  const upkeep = new Upkeep({
    db: control,
    jobs: upkeepJobs(replica, log, archiving),
    held: () => worker.held,
    groupOf: (connectionId) => directory.keyOf(connectionId),
    log,
    signal: ending,
  });
  upkeep.start();
  gaps.ring = () => {
    upkeep.look();
    window.lookNow();
  };
  const watching = async () => {
    const check = async () => {
      await requireKnownSchema(looks, settings.WA_REPLICA_SCHEMA);
      await requireSight(looks, settings.WA_REPLICA_SCHEMA);
    };
    const error = await schema.outdated(check, log, ending);
    if (error === undefined) return;
    log.fatal(errorFields(error), error.kind === 'schema_newer' ? 'the schema is newer' : 'rows are hidden');
    outdated.abort(error);
  };
  const beside = [
    listening(replica, log, ending),
    discover(discovery, settings.DISCOVERY_INTERVAL, () => worker.held, eventLog(log), ending),
    watching(),
    window.watch(ending),
    indexing(replica, log, ending),
    archiving?.archive.run(ending),
  ];
  let endBy = Number.POSITIVE_INFINITY;
  try {
    const connections = () => {
      onLook();
      return directory.connections;
    };
    const stopping = () => {
      endBy = performance.now() + workerOptions.shutdownTimeout;
      log.info('stopping');
      void service.stopping(settings.SHUTDOWN_TIMEOUT);
    };
    ending.addEventListener('abort', stopping, { once: true });
    const finished = await supervise(worker, workerOptions, connections, settings.POLL_INTERVAL, ending);
    log[finished ? 'info' : 'warn'](finished ? 'stopped' : 'stopped, dropping the page in hand');
  } finally {
    // All of it was told to end when the drain began, and has no time beyond that (R16).
    const left = Math.max(0, endBy - performance.now());
    await Promise.race([
      Promise.allSettled([upkeep.stop(), ...beside]),
      sleep(Math.min(1_000, left), new AbortController().signal),
    ]);
    await Promise.race([archiving?.close(), sleep(CLOSE_TIMEOUT, new AbortController().signal)]);
  }
  outdated.signal.throwIfAborted();
}

/** Waits until the connections are known; an upstream that refuses the key or is down is asked again and again. */
async function connectionsFound(replica: Replica, log: Logger, signal: AbortSignal): Promise<void> {
  const { settings, discovery } = replica;
  const bounds = { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX };
  for (let failures = 1; ; failures++) {
    try {
      await discovery.look(signal);
      return;
    } catch (cause) {
      if (signal.aborted) throw cause;
      const error = ReplicaError.from('internal', cause, 'reading connections');
      const retryIn = pauseAfter(error, failures, bounds);
      log.error({ ...errorFields(error), retry_in_ms: Math.round(retryIn) }, 'cannot find the connections');
      await sleep(retryIn, signal);
      signal.throwIfAborted();
    }
  }
}
