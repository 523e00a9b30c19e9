import type { Kysely } from 'kysely';
import { createTask, type ScheduledTask } from 'node-cron';
import { codeOf, recognize } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { Database } from '../store/schema.ts';
import { nextFor, noteDone } from '../store/upkeep.ts';
import { errorFields, type Logger } from './logger.ts';

interface Scheduled {
  readonly name: string;
  /** When it is due, in node-cron's form, in UTC. */
  readonly cron: string;
}

/** Done for each connection, by the worker that holds its lease: one connection at a time and key. */
export interface ConnectionJob extends Scheduled {
  readonly each: 'connection';
  /** Those of the worker's connections that it can be done for now; all where absent. */
  readonly among?: (connectionIds: readonly ConnectionId[]) => Promise<readonly ConnectionId[]>;
  /** Those of them that are due whatever the time. */
  readonly urgent?: (connectionIds: readonly ConnectionId[]) => Promise<readonly ConnectionId[]>;
  /** @returns false where it was interrupted: it is due as before then. */
  readonly run: (connectionId: ConnectionId, signal: AbortSignal) => Promise<boolean>;
}

/** Done by each worker, for itself or for all: harmless when done twice, and made up for by the next time. */
export interface WorkerJob extends Scheduled {
  readonly each: 'worker';
  readonly run: (signal: AbortSignal) => Promise<void>;
}

export type Job = ConnectionJob | WorkerJob;

export interface UpkeepOptions {
  readonly db: Kysely<Database>;
  readonly jobs: readonly Job[];
  /** The connections whose leases this worker holds. */
  readonly held: () => readonly ConnectionId[];
  /** What connections share of the upstream: their key. */
  readonly groupOf: (connectionId: ConnectionId) => object;
  readonly log: Logger;
  /** Interrupts what is under way. */
  readonly signal: AbortSignal;
}

/** How often it looks for what is due and was not done, in milliseconds: a connection taken over, a run that was
 * interrupted, a gap. */
const LOOK_EVERY = 30_000;

/** How far a clock may be put back without being noticed, in milliseconds: what is due waits for that long. */
const CLOCK_SLACK = 60_000;

/** How far back a run that was missed is looked for. */
const DAYS_BACK = 40;

/**
 * What is done beside replicating, on a schedule. When a job was last done is in the database, by connection: so a run
 * that was missed while no worker ran is made up for once, one that was interrupted is gone on with by whoever has the
 * connection then, and where a round takes longer than the schedule's interval, the connection that has waited longest
 * comes first.
 */
export class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #stopping = new AbortController();
  readonly #tasks: ScheduledTask[] = [];
  /** When each job was last due, in milliseconds since 1970. */
  readonly #dueAt = new Map<Job, number>();
  /** What is under way, by job and key; a worker's own by the job alone. */
  readonly #lanes = new Map<Job, Map<object, Promise<void>>>();
  #timer: NodeJS.Timeout | undefined;
  /** Milliseconds since 1970. */
  #lookedAt = 0;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    for (const job of options.jobs) this.#lanes.set(job, new Map());
    options.signal.addEventListener('abort', () => this.#stopping.abort(options.signal.reason), {
      once: true,
    });
  }

  start(): void {
    this.#schedule();
    this.#timer = setInterval(() => this.look(), LOOK_EVERY);
    this.look();
  }

  #schedule(): void {
    for (const job of this.#options.jobs) {
      const task = createTask(job.cron, () => this.#due(job, Date.now()), {
        timezone: 'UTC',
        name: job.name,
        suppressMissedWarning: true,
      });
      if (job.each === 'connection') this.#dueAt.set(job, lastDue(job.cron, Date.now()));
      this.#tasks.push(task);
      void task.start();
    }
  }

  /** Begins what is due and not under way. */
  look(): void {
    const now = Date.now();
    if (now < this.#lookedAt - CLOCK_SLACK) {
      // The clock was put back. By the schedule as it was, nothing is due until it has caught up, or everything always.
      for (const task of this.#tasks.splice(0)) void task.destroy();
      this.#schedule();
    }
    this.#lookedAt = now;
    for (const job of this.#options.jobs) if (job.each === 'connection') this.#begin(job);
  }

  /** Interrupts what is under way, and waits for its end. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#stopping.abort(new DOMException('upkeep ends', 'AbortError'));
    await Promise.all(this.#tasks.map((task) => task.destroy()));
    await Promise.all([...this.#lanes.values()].flatMap((lanes) => [...lanes.values()]));
  }

  async #due(job: Job, now: number): Promise<void> {
    if (job.each === 'connection') {
      this.#dueAt.set(job, now);
      this.#begin(job);
      return;
    }
    const lanes = this.#lanes.get(job)!;
    if (lanes.has(job)) return;
    const work = this.#once(job).finally(() => lanes.delete(job));
    lanes.set(job, work);
    await work;
  }

  async #once(job: WorkerJob): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await job.run(signal);
    } catch (error) {
      // What was interrupted throws that.
      if (!signal.aborted) this.#options.log.warn({ job: job.name, ...errorFields(error) }, 'upkeep failed');
    }
  }

  #begin(job: ConnectionJob): void {
    const { held, groupOf } = this.#options;
    const lanes = this.#lanes.get(job)!;
    for (const key of new Set(held().map(groupOf))) {
      if (lanes.has(key) || this.#stopping.signal.aborted) continue;
      lanes.set(
        key,
        this.#lane(job, key).finally(() => lanes.delete(key)),
      );
    }
  }

  /** One connection of a key after the other, until none is due. */
  async #lane(job: ConnectionJob, key: object): Promise<void> {
    const { log } = this.#options;
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted) {
        const connectionId = await this.#next(job, key);
        if (connectionId === undefined || signal.aborted) return;
        if (!(await this.#run(job, connectionId))) return;
      }
    } catch (error) {
      // The database is out of reach; the next look comes soon.
      if (!signal.aborted) log.warn({ job: job.name, ...errorFields(error) }, 'upkeep failed');
    }
  }

  async #next(job: ConnectionJob, key: object): Promise<ConnectionId | undefined> {
    const { db, held, groupOf } = this.#options;
    const ours = held().filter((id) => groupOf(id) === key);
    const able = (await job.among?.(ours)) ?? ours;
    if (able.length === 0) return undefined;
    const urgent = (await job.urgent?.(able)) ?? [];
    const dueAt = new Date(this.#dueAt.get(job)!).toISOString();
    return await nextFor(db, job.name, able, { dueAt, now: new Date().toISOString() }, urgent);
  }

  /** @returns false where it was interrupted. */
  async #run(job: ConnectionJob, connectionId: ConnectionId): Promise<boolean> {
    const { db, log } = this.#options;
    const { signal } = this.#stopping;
    const startedAt = new Date().toISOString();
    let failed: string | null = null;
    try {
      if (!(await job.run(connectionId, signal))) return false;
    } catch (error) {
      if (signal.aborted) return false;
      const known = recognize(error);
      failed = known === undefined ? codeOf(error) : `${known.kind}: ${known.message}`;
      log.warn({ job: job.name, connection_id: connectionId, ...errorFields(error) }, 'upkeep failed');
    }
    await noteDone(db, job.name, connectionId, startedAt, failed);
    return true;
  }
}

/** When a schedule was last due, in milliseconds since 1970; 0 where that is over forty days ago. */
export function lastDue(cron: string, now: number): number {
  const fields = cron.trim().split(/\s+/);
  const matches = (pattern: string) => {
    const task = createTask(pattern, () => {}, { timezone: 'UTC' });
    return (at: number) => task.match(new Date(at));
  };
  const due = matches(cron);
  // One with seconds comes often; of the others the hours are gone through first, which are fewer.
  if (fields.length > 5) return latest(now, SECOND, now - HOUR, due) ?? 0;
  const hour = matches(['*', ...fields.slice(1)].join(' '));
  for (let at = now; ; ) {
    const begin = latest(at, HOUR, now - DAYS_BACK * 24 * HOUR, hour);
    if (begin === undefined) return 0;
    const found = latest(Math.min(now, begin + HOUR - MINUTE), MINUTE, begin, due);
    if (found !== undefined) return found;
    at = begin - HOUR;
  }
}

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 3_600_000;

/** The latest full step from `least` to `most` that matches. */
function latest(
  most: number,
  step: number,
  least: number,
  matches: (at: number) => boolean,
): number | undefined {
  for (let at = Math.floor(most / step) * step; at >= least; at -= step) if (matches(at)) return at;
  return undefined;
}
