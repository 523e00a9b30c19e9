import type { Kysely } from 'kysely';
import { codeOf, isOutage, recognize } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import type { Database } from '../store/schema.ts';
import { nextFor, noteDone } from '../store/upkeep.ts';
import { Faults } from './faults.ts';
import { errorFields, type Logger } from './logger.ts';
import { Schedule } from './schedule.ts';

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

/** How often it looks at least for what is due and was not done, in milliseconds: a connection taken over, a run that was
 * interrupted, a gap, a clock that was put forward. */
const LOOK_EVERY = 30_000;

/** How far a clock may be put back without being noticed, in milliseconds: what is due waits for that long. */
const CLOCK_SLACK = 60_000;

/**
 * What is done beside replicating, on a schedule. When a job was last done is in the database, by connection: so a run
 * that was missed while no worker ran, or while the machine slept, is made up for once, one that was interrupted is gone
 * on with by whoever has the connection then, and where a round takes longer than the schedule's interval, the connection
 * that has waited longest comes first.
 */
export class Upkeep {
  readonly #options: UpkeepOptions;
  readonly #stopping = new AbortController();
  readonly #schedules: ReadonlyMap<Job, Schedule>;
  /** When each job was last due, and is next, in milliseconds since 1970. */
  readonly #dueAt = new Map<Job, number>();
  readonly #nextAt = new Map<Job, number>();
  /** What is under way, by job and key; a worker's own by the job alone. */
  readonly #lanes = new Map<Job, Map<object, Promise<void>>>();
  /** Of the looks for what is due, which come every half a minute whatever the schedule. */
  readonly #faults: ReadonlyMap<Job, Faults>;
  #timer: NodeJS.Timeout | undefined;
  /** Milliseconds since 1970. */
  #lookedAt = 0;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#schedules = new Map(options.jobs.map((job) => [job, new Schedule(job.cron)]));
    this.#faults = new Map(options.jobs.map((job) => [job, new Faults('looking for upkeep')]));
    for (const job of options.jobs) this.#lanes.set(job, new Map());
    options.signal.addEventListener('abort', () => this.#stopping.abort(options.signal.reason), {
      once: true,
    });
  }

  start(): void {
    const now = Date.now();
    for (const job of this.#options.jobs) this.#plan(job, now);
    this.look();
  }

  /** When a job was last due and is next, by the clock as it is. */
  #plan(job: Job, now: number): void {
    const schedule = this.#schedules.get(job)!;
    this.#dueAt.set(job, schedule.last(now));
    this.#nextAt.set(job, schedule.next(now));
  }

  /** Begins what is due and not under way, and looks again when the next is due. */
  look(): void {
    clearTimeout(this.#timer);
    if (this.#stopping.signal.aborted) return;
    const now = Date.now();
    // By the times as they are nothing is due until a clock that was put back has caught up, or everything always.
    const putBack = now < this.#lookedAt - CLOCK_SLACK;
    this.#lookedAt = now;
    for (const job of this.#options.jobs) {
      const isDue = now >= this.#nextAt.get(job)!;
      if (putBack || isDue) this.#plan(job, now);
      if (job.each === 'connection') this.#begin(job);
      else if (isDue) this.#beginOwn(job);
    }
    const soonest = Math.min(...this.#nextAt.values()) - now;
    this.#timer = setTimeout(() => this.look(), Math.min(LOOK_EVERY, soonest));
  }

  /** Interrupts what is under way, and waits for its end. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#stopping.abort(new DOMException('upkeep ends', 'AbortError'));
    await Promise.all([...this.#lanes.values()].flatMap((lanes) => [...lanes.values()]));
  }

  #beginOwn(job: WorkerJob): void {
    const lanes = this.#lanes.get(job)!;
    if (lanes.has(job)) return;
    lanes.set(
      job,
      this.#once(job).finally(() => lanes.delete(job)),
    );
  }

  async #once(job: WorkerJob): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await job.run(signal);
    } catch (error) {
      // What was interrupted throws that; an outage is told of by the replication, and not with each of the jobs too.
      if (signal.aborted || isOutage(error)) return;
      this.#options.log.warn({ job: job.name, ...errorFields(error) }, 'upkeep failed');
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
        this.#faults.get(job)!.over();
        if (connectionId === undefined || signal.aborted) return;
        if (!(await this.#run(job, connectionId))) return;
      }
    } catch (error) {
      // The next look comes soon.
      const fault = signal.aborted ? undefined : this.#faults.get(job)!.note(error);
      if (fault !== undefined) log.warn({ job: job.name, ...fault }, 'upkeep failed');
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
