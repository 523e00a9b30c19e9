import { existsSync, rmSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Options, Presets, SingleBar } from 'cli-progress';
import type { Kysely } from 'kysely';
import { destroyEmbeddedPostgres, startEmbeddedPostgres } from '../embedded/server.ts';
import { codeOf } from '../errors/errors.ts';
import { sleep } from '../lib/wait.ts';
import { DEFAULT_API_KEY } from '../simulator/options.ts';
import { type Simulator, startSimulator } from '../simulator/server.ts';
import { openDatabase } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import { type ConnectionStatus, readConnections } from '../store/status.ts';
import { compareWithTruth } from './compare.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { connectionTable, type Look, rowsOf } from './table.ts';

export interface DemoOptions {
  readonly connections: number;
  readonly messages: number;
  readonly seed: number;
  /** Changes per second once the backlog is done. */
  readonly live: number;
  /** Catch up, compare with the truth and end. */
  readonly once: boolean;
}

/** A part of the demo is gone: nothing is wrong with the program. */
export class DemoFailed extends Error {
  override name = 'DemoFailed';
}

interface Stage {
  readonly simulator: Simulator;
  readonly db: Kysely<Database>;
  readonly daemon: Daemon;
  readonly total: number;
  readonly startedAt: number;
  readonly out: NodeJS.WriteStream;
  readonly signal: AbortSignal;
}

const SCHEMA = 'whatsapp';
/** The upstream's memory, in milliseconds. */
const WINDOW = 30 * 86_400_000;
/** How long the whole backlog may take before the demo gives up, in milliseconds. */
const PATIENCE = 180_000;

/**
 * A simulated upstream, an embedded Postgres and the real daemon between them, in one process tree.
 * @returns whether all went well: with `once`, whether every row agrees with the truth.
 * @throws the signal's reason where it comes before that is known.
 */
export async function demo(
  options: DemoOptions,
  out: NodeJS.WriteStream,
  signal: AbortSignal,
): Promise<boolean> {
  // What was begun is ended the other way round, however far the start came.
  const ending = new AsyncDisposableStack();
  try {
    const dir = await mkdtemp(join(tmpdir(), 'wa-replica-demo-')).catch((error: unknown) => {
      throw new DemoFailed(`no folder can be made in ${tmpdir()} (${codeOf(error)}): set TMPDIR to another`);
    });
    const begun: Begun = { dir };
    const abandon = () => endAtOnce(begun);
    process.on('exit', abandon);
    ending.defer(() => void process.off('exit', abandon));
    ending.defer(() => rm(dir, { recursive: true, force: true }));
    // The server may have to run as another user, who has to get in.
    await chmod(dir, 0o755);
    out.write(`starting: a simulated upstream (seed ${options.seed}), PostgreSQL, and the daemon\n`);
    const simulator = await startSimulator({ ...options, live: 0 });
    ending.defer(() => simulator.close());
    const home = join(dir, 'postgres');
    // It may have its place elsewhere, where its account gets in.
    ending.defer(() => destroyEmbeddedPostgres(home));
    const postgres = await startEmbeddedPostgres({ dir: home });
    begun.postgres = postgres.pid;
    const db = openDatabase({
      url: postgres.url,
      schema: SCHEMA,
      poolSize: 2,
      applicationName: 'wa-replica demo',
      onIdleError: () => {},
    });
    ending.defer(() => db.destroy());
    const logFile = join(dir, 'daemon.log');
    const startedAt = performance.now();
    const daemon = startDaemon(environment(simulator, postgres.url), logFile, dir);
    begun.daemon = daemon.process.pid;
    ending.defer(() => daemon.stop());
    let total = 0;
    for (const id of simulator.world.connections.keys()) {
      for (const _ of simulator.world.truth(id)) total++;
    }
    const page = await Promise.race([daemon.page, daemon.ended.then(() => 'not served')]);
    out.write(`the daemon's page:     ${page}\n`);
    out.write(`to look at the tables: ${postgres.psqlLine}\n`);
    out.write(`what the daemon says:  ${logFile}\n\n`);
    const stage = { simulator, db, daemon, total, startedAt, out, signal };
    await backlog(stage);
    // Without a verdict nothing is agreed.
    if (options.once) signal.throwIfAborted();
    if (signal.aborted) return true;
    if (options.once) return await verdict(stage);
    simulator.startTraffic({ changesPerSecond: options.live });
    out.write(`\nlive: ${options.live} changes a second at the upstream, Ctrl-C ends\n\n`);
    await watch(stage);
    return true;
  } finally {
    await ending.disposeAsync();
    out.write('ended\n');
  }
}

/** What would go on without this process. */
interface Begun {
  readonly dir: string;
  /** Their process ids. */
  postgres?: number;
  daemon?: number | undefined;
}

/** For a second Ctrl-C, which ends the process where it stands. */
function endAtOnce({ dir, postgres, daemon }: Begun): void {
  attempt(() => daemon !== undefined && process.kill(daemon, 'SIGKILL'));
  attempt(() => postgres !== undefined && process.kill(postgres, 'SIGQUIT'));
  // The server takes a moment to end, and writes and removes files meanwhile.
  for (let tries = 0; tries < 100 && existsSync(dir); tries++) {
    attempt(() => rmSync(dir, { recursive: true, force: true }));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }
}

/** Nobody is left to be told. */
function attempt(work: () => unknown): void {
  try {
    work();
  } catch {
    // It has ended already, or cannot be removed yet.
  }
}

function environment(simulator: Simulator, databaseUrl: string): Record<string, string> {
  return {
    DATABASE_URL: databaseUrl,
    WHATSAPP_USE_API_KEY: DEFAULT_API_KEY,
    WHATSAPP_USE_BASE_URL: simulator.url,
    HTTP_PORT: '0',
    // A quick pulse, so that there is something to see.
    POLL_INTERVAL: '1s',
    POLL_INTERVAL_IDLE: '2s',
  };
}

/** Shows the backlog's progress until every connection has caught up. */
async function backlog(stage: Stage): Promise<void> {
  const { out, total, signal, startedAt } = stage;
  const format = 'backlog {bar} {percentage}% · {value}/{total} rows · {rate} rows/s';
  const options: Options = {
    format,
    stream: out,
    hideCursor: true,
    barsize: 30,
    noTTYOutput: true,
    notTTYSchedule: 2000,
  };
  const bar = new SingleBar(options, Presets.shades_classic);
  bar.start(total, 0, { rate: 0 });
  try {
    while (!signal.aborted) {
      const statuses = await tryStatus(stage.db);
      const rows = statuses.reduce((sum, status) => sum + rowsOf(status), 0);
      const seconds = (performance.now() - startedAt) / 1000;
      bar.update(rows, { rate: Math.round(rows / seconds) });
      if (statuses.length > 0 && statuses.every((status) => status.state === 'live')) return;
      requireDaemon(stage);
      if (seconds * 1000 > PATIENCE) throw new DemoFailed('the backlog takes too long');
      await sleep(100, signal);
    }
  } finally {
    bar.stop();
  }
}

/** @throws DemoFailed where the daemon has ended by itself. Its last words are shown: its log goes with the folder. */
function requireDaemon({ daemon: { end, lastLines }, out }: Stage): void {
  if (end === undefined) return;
  out.write(`\n${lastLines.join('\n')}\n`);
  throw new DemoFailed(`the daemon ended (${end}); what it said last is above`);
}

/** The status, or nothing while the daemon has not made the tables yet. */
async function tryStatus(db: Kysely<Database>): Promise<ConnectionStatus[]> {
  try {
    return await readConnections(db, WINDOW);
  } catch {
    return [];
  }
}

/** Compares every row with the truth and says how it went. */
async function verdict({ simulator, db, startedAt, out, total }: Stage): Promise<boolean> {
  const took = (performance.now() - startedAt) / 1000;
  let different = 0;
  for (const id of simulator.world.connections.keys()) {
    const {
      compared,
      differences,
      different: count,
    } = await compareWithTruth(db, id, simulator.world.truth(id));
    different += count;
    const { contact, conversation, message } = compared;
    const counts = `${message} messages, ${conversation} conversations, ${contact} contacts`;
    out.write(`${id}: ${counts}: ${count === 0 ? 'all equal to the truth' : `${count} differences`}\n`);
    for (const difference of differences) out.write(`  ${difference}\n`);
  }
  out.write(
    `${total} rows in ${took.toFixed(1)} s from the daemon's start, ${Math.round(total / took)} rows/s\n`,
  );
  out.write(different === 0 ? 'the replica agrees with the upstream\n' : `${different} differences\n`);
  return different === 0;
}

/** Shows the connections until the signal, or as long as anybody looks (`| head`): redrawn on a terminal, a table now and
 * then elsewhere. */
async function watch(stage: Stage): Promise<void> {
  const { db, out, signal } = stage;
  let drawn = 0;
  let before = new Map<string, Look>();
  while (!signal.aborted && out.writable) {
    requireDaemon(stage);
    const statuses = await readConnections(db, WINDOW).catch((error: unknown) => {
      throw new DemoFailed(`the demo's Postgres does not answer (${codeOf(error)})`);
    });
    const at = performance.now();
    const lines = connectionTable(statuses, before, at);
    if (out.isTTY && drawn > 0) out.write(`\u001b[${drawn}A`);
    // A line that wraps would be two, and the next drawing one too low.
    for (const line of lines)
      out.write(out.isTTY ? `\u001b[2K${line.slice(0, out.columns || undefined)}\n` : `${line}\n`);
    drawn = lines.length;
    before = new Map(statuses.map((status) => [status.connection_id, { rows: rowsOf(status), at }]));
    await sleep(out.isTTY ? 1000 : 5000, signal);
  }
}
