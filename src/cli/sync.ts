import { Command } from 'commander';
import { ReplicaError } from '../errors/errors.ts';
import { unlessAborted } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { troubleLog } from '../ops/event-log.ts';
import type { Logger } from '../ops/logger.ts';
import { prepareSchema } from '../replica/prepare-schema.ts';
import { givenConnections, type Replica } from '../replica/replica.ts';
import { knownConnections } from '../store/connections.ts';
import { catchUp } from '../sync/catch-up.ts';
import type { SyncEvent } from '../sync/events.ts';
import { assumeNamed, connectionOption } from './connection-option.ts';
import { PassProgress } from './progress.ts';
import { EMBEDDED_DIR, type EmbeddedOption, withReplica } from './session.ts';
import { CommandFailed, type Terminal } from './terminal.ts';

/** Failures in a row after which a connection is given up: with the default backoff, well under a minute. */
const MAX_FAILURES = 5;

/** `wa-replica sync`: catches every connection up once. */
export function syncCommand(terminal: Terminal): Command {
  return new Command('sync')
    .description('one pass: catches every connection up; beside a running daemon, waits for it to do so')
    .addOption(connectionOption())
    .option('--embedded [dir]', `into a Postgres of its own in dir (${EMBEDDED_DIR})`)
    .action(async (options: EmbeddedOption & { connection?: string[] }) => {
      const progress = new PassProgress(terminal.stderr);
      const notFound: ConnectionId[] = [];
      let unlisted = 0;
      const listen = (log: Logger) => {
        const toLog = troubleLog(log);
        return (event: SyncEvent) => {
          progress.note(event);
          if (event.type === 'failed' && event.error.kind === 'not_found') notFound.push(event.connectionId);
          if (event.type === 'discovery_failed') unlisted++;
          toLog(event);
        };
      };
      const needs = { ...options, needsUpstream: true, ends: 'drained' as const, listen };
      await withReplica(terminal, needs, async (replica) => {
        const { settings, worker, workerOptions, directory } = replica;
        const { signal } = terminal;
        const onWaiting = (what: string) => void terminal.stderr.write(`waiting for ${what}\n`);
        const onMended = (what: string) => void terminal.stderr.write(`mended: ${what}\n`);
        const how = { migrate: settings.MIGRATE_ON_START, patience: 10_000, onWaiting, onMended };
        await prepareSchema(replica, how, signal);
        const waiting = await unlessAborted(begin(replica, options.connection, signal), signal);
        // Where they are named, nobody wants what else a key lists.
        const named = options.connection ?? givenConnections(settings);
        const unlistedFirst = named === undefined ? unlisted : 0;
        const wanted = options.connection ?? directory.connections;
        const connections = wanted.filter((id) => !waiting.includes(id));
        worker.start();
        progress.start(connections.length);
        try {
          const results = await catchUp(
            worker,
            workerOptions,
            connections,
            { maxFailures: MAX_FAILURES },
            signal,
            (result) => progress.ended(result),
          );
          progress.stop();
          const gone = await removedOf(replica, notFound, signal);
          terminal.stdout.write(progress.summary(results, gone));
          if (waiting.length > 0) {
            const ids = waiting.join(', ');
            throw new CommandFailed(
              `which of ${ids} is the connection that was replicated without an id cannot be told: see that they are paired`,
            );
          }
          // Who asked for one by its id wanted its rows.
          const excused = (id: ConnectionId) => options.connection === undefined && gone.has(id);
          const behind = results.filter((one) => !one.caughtUp && !excused(one.connectionId));
          if (behind.length > 0)
            throw new CommandFailed(`${behind.length} of ${results.length} not caught up`);
          if (unlistedFirst > 0)
            throw new CommandFailed('not all that the keys list could be looked up: there may be more');
        } finally {
          progress.stop();
          await worker.stop();
        }
      });
    });
}

/** Makes known what is to be caught up.
 * @returns of which it cannot be told whether they are the connection that was replicated without an id. */
async function begin(
  replica: Replica,
  wanted: readonly ConnectionId[] | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { discovery } = replica;
  if (wanted === undefined) return await discovery.look(signal);
  await assumeNamed(replica, wanted, signal);
  await refuseUnreachable(replica, wanted, signal);
  return await discovery.begin(wanted, signal);
}

/** Makes no connection known, for every pass to come, that is a slip of the pen.
 * @throws CommandFailed where one was never heard of here, and its key does not reach it either. */
async function refuseUnreachable(
  { db, directory, upstream }: Replica,
  wanted: readonly ConnectionId[],
  signal: AbortSignal,
): Promise<void> {
  const known = new Set((await knownConnections(db)).map((one) => one.connectionId));
  for (const id of wanted.filter((one) => !known.has(one))) {
    const error = await upstream.pairingStatus(directory.keyOf(id), id, signal).catch((error) => error);
    signal.throwIfAborted();
    if (error instanceof ReplicaError && error.kind === 'not_found')
      throw new CommandFailed(`no connection ${id} is known here, and the key does not reach it`);
  }
}

/** Those that answered 404 and that no key lists either: removed, as a daemon would find at its next look-up (R21). */
async function removedOf(
  { directory, discovery }: Replica,
  notFound: readonly ConnectionId[],
  signal: AbortSignal,
): Promise<ReadonlySet<ConnectionId>> {
  if (notFound.length === 0) return new Set();
  for (const id of notFound) discovery.notFound(id);
  await discovery.look(signal);
  return new Set(notFound.filter((id) => !directory.connections.includes(id)));
}
