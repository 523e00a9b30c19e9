import { remedyOf } from '../errors/remedies.ts';
import { plural } from '../lib/plural.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import type { LoopHealth } from '../sync/standing.ts';
import { outageOf } from './outage.ts';
import type { WindowAlarms } from './window-watch.ts';

export interface HealthOptions {
  /** The loops of this worker's leases. */
  readonly loops: () => readonly LoopHealth[];
  /** How far a loop may be behind its own due time, in milliseconds. */
  readonly overdueAfter: number;
  /** READY_MAX_LAG in milliseconds. */
  readonly maxLag: number;
  /** Whether it knows its connections and has looked for leases: before, having none is no standby. */
  readonly begun: () => boolean;
  /** What the upstream is about to forget, and what it forgot, of all connections. */
  readonly alarms: () => WindowAlarms;
  /** Keys of which it is not known what they list. */
  readonly keysFailing: () => number;
  /** Whether the schema is this program's.
   * @throws what Postgres throws. */
  readonly migrated: () => Promise<boolean>;
}

/** How long the database may take to answer a probe, in milliseconds. */
const PROBE_TIMEOUT = 2_000;

/** Loops that should have moved on long ago: the process is hung, and a restart is the remedy. A backoff, a long
 * Retry-After or an outage moves the due time and never counts. */
export function overdue({ loops, overdueAfter }: HealthOptions): readonly LoopHealth[] {
  const now = performance.now();
  return loops().filter((loop) => now - loop.dueAt > overdueAfter);
}

/** How this worker's connections stand, in one line. */
export function summary({ loops }: HealthOptions): string {
  const all = loops();
  const parked = all.filter((loop) => loop.failure?.parked === true).length;
  const failing = all.filter((loop) => loop.failure !== undefined).length - parked;
  const parts = [plural(all.length, 'connection'), `${all.length - parked - failing} replicating`];
  if (failing > 0) parts.push(`${failing} retrying`);
  if (parked > 0) parts.push(`${parked} parked`);
  return parts.join(', ');
}

export interface Readiness {
  readonly status: 'ready' | 'degraded' | 'unready';
  readonly reason?: string;
  readonly connections: { readonly held: number; readonly current: number; readonly parked: number };
  /** Those that are not current, since when, why and what to do; for whoever has the token. */
  readonly behind: readonly {
    readonly connection_id: ConnectionId;
    readonly seconds_since_poll: number | null;
    readonly parked: boolean;
    readonly kind: string | null;
    readonly error: string | null;
    readonly what_to_do: string | null;
  }[];
  /** Connections that are about to outrun the upstream's memory (R17); whoever holds them. */
  readonly window: WindowAlarms['window'];
  /** Gaps that nobody has acknowledged. */
  readonly gaps: number;
  /** Keys whose connections could not be looked up: those that are not known yet are not replicated. */
  readonly keys_failing: number;
}

/** Whether this worker replicates: "alive but not syncing" is unready. One without connections is on standby, ready. */
export async function readiness(options: HealthOptions): Promise<Readiness> {
  // Asked first: what follows is of one moment.
  const database = await databaseProblem(options);
  const now = performance.now();
  const loops = options.loops();
  const isCurrent = (loop: LoopHealth) =>
    loop.polledAt !== undefined &&
    now - loop.polledAt <= Math.max(3 * loop.interval, options.maxLag) &&
    loop.failure?.parked !== true;
  const late = loops.filter((loop) => !isCurrent(loop));
  const connections = {
    held: loops.length,
    current: loops.length - late.length,
    parked: loops.filter((loop) => loop.failure?.parked === true).length,
  };
  const behind = late.map((loop) => ({
    connection_id: loop.connectionId,
    seconds_since_poll: loop.polledAt === undefined ? null : Math.round((now - loop.polledAt) / 1000),
    parked: loop.failure?.parked === true,
    kind: loop.failure?.kind ?? null,
    error: loop.failure?.message ?? null,
    what_to_do: loop.failure === undefined ? null : (remedyOf(loop.failure) ?? null),
  }));
  const reason =
    database ??
    (options.begun() ? undefined : 'the connections are not known yet') ??
    (late.length > 0 && connections.current === 0 ? 'no connection is current' : undefined);
  const told = { connections, behind, ...options.alarms(), keys_failing: options.keysFailing() };
  if (reason !== undefined) return { status: 'unready', reason, ...told };
  const degraded = late.length + told.window.length + told.gaps + told.keys_failing > 0;
  return { status: degraded ? 'degraded' : 'ready', ...told };
}

async function databaseProblem({ migrated }: HealthOptions): Promise<string | undefined> {
  const answered = new AbortController();
  const late = sleep(PROBE_TIMEOUT, answered.signal).then(() => 'late' as const);
  try {
    const result = await Promise.race([migrated(), late]);
    if (result === 'late') return 'the database does not answer';
    return result ? undefined : "the schema is not this version's";
  } catch (error) {
    return outageOf(error);
  } finally {
    answered.abort();
  }
}
