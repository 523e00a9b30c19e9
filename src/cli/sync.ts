import { Command } from 'commander';
import { eventLog } from '../ops/event-log.ts';
import type { Logger } from '../ops/logger.ts';
import { prepareSchema } from '../replica.ts';
import { ensureConnections } from '../store/connections.ts';
import { catchUp } from '../sync/catch-up.ts';
import type { SyncEvent } from '../sync/events.ts';
import { connectionOption } from './connection-option.ts';
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
      const listen = (log: Logger) => {
        const toLog = eventLog(log);
        return (event: SyncEvent) => {
          progress.note(event);
          // What goes well is in the progress and the summary.
          if (event.type === 'failed' || event.type === 'worker_failed') toLog(event);
        };
      };
      await withReplica(terminal, { ...options, needsUpstream: true, listen }, async (replica) => {
        const { settings, worker, workerOptions, directory, db } = replica;
        const { signal } = terminal;
        const onWaiting = (what: string) => void terminal.stderr.write(`waiting for ${what}\n`);
        await prepareSchema(
          replica,
          { migrate: settings.MIGRATE_ON_START, patience: 10_000, onWaiting },
          signal,
        );
        let waiting: readonly string[] = [];
        if (options.connection !== undefined) {
          // Of several keys, which is theirs?
          if (directory.keys.length > 1) await replica.discovery.look(signal);
          directory.assume(options.connection);
          await ensureConnections(db, options.connection);
        } else {
          waiting = await replica.discovery.look(signal);
        }
        const connections = options.connection ?? directory.connections;
        await worker.start();
        progress.start(connections.length);
        try {
          const results = await catchUp(
            worker,
            workerOptions,
            connections,
            { maxFailures: MAX_FAILURES },
            signal,
          );
          progress.stop();
          terminal.stdout.write(progress.summary(results));
          const behind = results.filter((result) => !result.caughtUp);
          if (waiting.length > 0) {
            const ids = waiting.join(', ');
            throw new CommandFailed(
              `which of ${ids} is the connection that was replicated without an id cannot be told: see that they are paired`,
            );
          }
          if (behind.length > 0)
            throw new CommandFailed(`${behind.length} of ${results.length} not caught up`);
        } finally {
          progress.stop();
          await worker.stop();
        }
      });
    });
}
