import { loadSettings, type Needs } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { EmbeddedPostgresError } from '../embedded/errors.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded/server.ts';
import { recognize } from '../errors/errors.ts';
import { unlessAborted } from '../lib/wait.ts';
import { createLogger, errorFields, isJournal, type Logger } from '../ops/logger.ts';
import { assemble, type Replica } from '../replica/replica.ts';
import { requireCurrentSchema } from '../store/migrator.ts';
import type { Listener } from '../sync/events.ts';
import { endOfGrace } from './ending.ts';
import type { Terminal } from './terminal.ts';

/** The folder of `--embedded` where none is named. */
export const EMBEDDED_DIR = './wa-replica-data';

export interface EmbeddedOption {
  /** `--embedded` alone is true, with a folder its path. */
  readonly embedded?: boolean | string;
}

/** Reads the settings and says what is odd about them. */
export function readSettings(terminal: Terminal, needs: Needs): Settings {
  const { settings, warnings } = loadSettings(terminal.env, needs);
  for (const warning of warnings) terminal.stderr.write(`wa-replica: ${warning}\n`);
  return settings;
}

/** A logger onto stderr, as the settings want it. */
function loggerFor(terminal: Terminal, settings: Settings): Logger {
  const format = settings.LOG_FORMAT ?? (terminal.stderr.isTTY ? 'pretty' : 'json');
  const journal = isJournal(process.stderr.fd, terminal.env.JOURNAL_STREAM);
  return createLogger({ level: settings.LOG_LEVEL, format, stream: terminal.stderr, journal });
}

/** How the signal ends the work: `soon`, {@link SOON} later, what it waits for is cut off; `drained`: so SHUTDOWN_TIMEOUT
 * later; `itself`: it has a bound of its own. */
type Ends = 'soon' | 'drained' | 'itself';

/** How long the work may go on after the signal, in milliseconds: what is as good as done is done. */
const SOON = 1_000;

/**
 * Runs `work` with a replica put together from the settings, and closes everything after it. With `--embedded` a
 * Postgres of its own is started first and stopped last.
 * @param work is told to end by the terminal's signal, and by the end of that Postgres.
 * @throws EmbeddedPostgresError where that has ended; the signal's reason where the work did not end in time after it.
 */
export async function withReplica<T>(
  terminal: Terminal,
  options: EmbeddedOption & {
    needsUpstream: boolean;
    /** `soon` where absent. */
    ends?: Ends;
    /** Read already. */
    settings?: Settings;
    listen?: (log: Logger, settings: Settings) => Listener;
  },
  work: (replica: Replica, log: Logger, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { embedded } = options;
  const needs = { database: !embedded, upstream: options.needsUpstream };
  const settings = options.settings ?? readSettings(terminal, needs);
  const log = loggerFor(terminal, settings);
  let server: EmbeddedPostgres | undefined;
  if (embedded) {
    const dir = embedded === true ? EMBEDDED_DIR : embedded;
    server = await startEmbeddedPostgres({ dir, log: (line) => terminal.stderr.write(`${line}\n`) });
    terminal.stderr.write(`Postgres: ${server.url}\nto look at the tables: ${server.psqlLine}\n`);
  }
  const done = new AbortController();
  const watching = AbortSignal.any([terminal.signal, done.signal]);
  const lost = server === undefined ? done.signal : endOf(server, log, watching);
  try {
    const replica = assemble({
      settings,
      env: terminal.env,
      databaseUrl: server?.url,
      listen: options.listen?.(log, settings) ?? (() => {}),
      onIdleError: (error) => log.debug(errorFields(error), 'an idle connection to Postgres ended'),
    });
    const late = endOfGrace(terminal.signal, graceOf(options.ends ?? 'soon', settings), done.signal);
    try {
      const working = work(replica, log, AbortSignal.any([terminal.signal, lost]));
      const result = await unlessAborted(working, late);
      lost.throwIfAborted();
      return result;
    } catch (error) {
      lost.throwIfAborted();
      throw recognize(error) ?? error;
    } finally {
      await replica.close(late.aborted ? 0 : undefined);
    }
  } finally {
    done.abort();
    await server?.stop();
  }
}

/** In milliseconds. */
function graceOf(ends: Ends, { SHUTDOWN_TIMEOUT: shutdown }: Settings): number {
  if (ends === 'itself') return Number.POSITIVE_INFINITY;
  return ends === 'drained' ? shutdown : Math.min(SOON, shutdown);
}

/** Aborted when the server has ended, unless the signal came first. */
function endOf(server: EmbeddedPostgres, log: Logger, signal: AbortSignal): AbortSignal {
  const ended = new AbortController();
  void server.gone(signal).then((gone) => {
    if (!gone) return;
    log.fatal({ pid: server.pid }, 'the Postgres of --embedded has ended');
    const remedy = 'Start this anew: it starts that, too.';
    ended.abort(new EmbeddedPostgresError('The Postgres of --embedded has ended.', remedy));
  });
  return ended.signal;
}

/**
 * Runs `work` with a replica for a command that needs the tables alone.
 * @throws ReplicaError `schema_newer` or `schema_pending` unless the schema is this program's.
 */
export async function onTables<T>(terminal: Terminal, work: (replica: Replica) => Promise<T>): Promise<T> {
  return await withReplica(terminal, { needsUpstream: false }, async (replica) => {
    await requireCurrentSchema(replica.db, replica.settings.WA_REPLICA_SCHEMA);
    return await work(replica);
  });
}
