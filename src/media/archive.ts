import { randomBytes } from 'node:crypto';
import { type ErrorKind, ReplicaError } from '../errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import { Alarm } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import {
  type Claim,
  type ClaimOrder,
  claimMedia,
  noteGone,
  noteRetry,
  releaseClaims,
  renewClaims,
} from '../store/media-claims.ts';
import { type DownloadContext, download } from './download.ts';
import type { MediaListener } from './events.ts';
import { Lanes } from './lanes.ts';
import { ownerOf } from './owner.ts';

export interface ArchiveContext extends DownloadContext {
  readonly schema: string;
  readonly connections: () => readonly ConnectionId[];
  /** Downloads at a time, of this process. */
  readonly concurrency: number;
  /** Whether messages are behind: they have the machine first, and one download at a time goes on beside them. */
  readonly isBehind: () => boolean;
  readonly backoff: BackoffBounds;
  /** The upstream's memory, RETENTION_WINDOW, in milliseconds. */
  readonly window: number;
  readonly listen: MediaListener;
}

/** How long a claim holds, and how often it is renewed, in milliseconds: a killed worker's come free so soon. */
const CLAIM_TTL = 60_000;
const RENEW_EVERY = 20_000;

/** How often the queue is looked at while nothing rings, in milliseconds: other workers fill it too. */
const LOOK_EVERY = 5_000;

/** While messages wait for the same cores, one attachment is begun in so many milliseconds, one at a time. */
const BEHIND_EVERY = 1_000;

/** What is claimed, by turns: a few that are new and fail for good must not take all of them. */
const ORDERS = ['newest', 'untried', 'oldest', 'untried'] as const;

/** The longest delay before one attachment is tried again, in milliseconds. */
const MOST_DELAY = 6 * 3_600_000;

/** For how long a connection that was reached is taken for one that is, in milliseconds. */
const PROVEN_FOR = 60_000;

/** A message's last moments in the upstream's memory are not told to the second. */
const WINDOW_MARGIN = 1.1;

/**
 * Fetches what is in the queue, until it is told to stop. Several processes share one queue by claims. What fails for one
 * attachment delays that one; what fails for a connection, the connection; and what fails for the store, everything:
 * the messages never wait for any of it.
 */
export class MediaArchive {
  readonly #context: ArchiveContext;
  readonly #lanes: Lanes;
  readonly #alarm = new Alarm();
  readonly #inHand = new Map<Claim, Promise<void>>();
  #claims = 0;
  #beganAt = Number.NEGATIVE_INFINITY;
  /** Failures of the store or the database in a row, and until when nothing is begun after the last one. */
  #failures = 0;
  #resumesAt = 0;
  /** When the next attachment is due that failed here: a reading of the monotonic clock. */
  #dueAt = Number.POSITIVE_INFINITY;
  /** Whether the store is known to be reachable and ours. */
  #checked = false;

  constructor(context: ArchiveContext) {
    this.#context = context;
    this.#lanes = new Lanes(context.concurrency);
  }

  /** Something was queued. */
  wake(): void {
    this.#alarm.ring();
  }

  /** Runs until the signal; what is in hand is dropped then, and given back. */
  async run(signal: AbortSignal): Promise<void> {
    const renewing = setInterval(() => void this.#renew(), RENEW_EVERY);
    try {
      while (!signal.aborted) await this.#alarm.sleep(await this.#fill(signal), signal);
    } finally {
      clearInterval(renewing);
      const unfinished = [...this.#inHand.keys()];
      await Promise.all(this.#inHand.values());
      if (unfinished.length > 0) await releaseClaims(this.#context.db, unfinished).catch(() => {});
    }
  }

  /** Begins as much as there is room for.
   * @returns how long there is nothing to do unless something rings, in milliseconds. */
  async #fill(signal: AbortSignal): Promise<number> {
    const { db, store, schema, concurrency, connections, isBehind } = this.#context;
    const rest = this.#resumesAt - performance.now();
    if (rest > 0) return rest;
    try {
      if (!this.#checked) await store.check(await ownerOf(db, schema));
      this.#checked = true;
      const now = performance.now();
      if (this.#dueAt <= now) this.#dueAt = Number.POSITIVE_INFINITY;
      const behind = isBehind();
      const spaced = this.#beganAt + BEHIND_EVERY - now;
      if (behind && spaced > 0) return spaced;
      const rooms = this.#lanes.rooms(connections(), now);
      const free = (behind ? 1 : concurrency) - this.#inHand.size;
      if (free > 0 && rooms.length > 0) {
        const claim = (order: ClaimOrder) =>
          claimMedia(db, rooms, free, order, randomBytes(12).toString('hex'), CLAIM_TTL);
        const order = ORDERS[this.#claims++ % ORDERS.length]!;
        let claims = await claim(order);
        if (claims.length === 0 && order === 'untried') claims = await claim('newest');
        for (const claim of claims) this.#begin(claim, signal);
        if (claims.length === 0 && this.#inHand.size === 0) this.#resumed();
      }
      return Math.min(LOOK_EVERY, this.#lanes.opensIn(now), this.#dueAt - now);
    } catch (error) {
      if (signal.aborted) return 0;
      this.#stopped(error);
      return this.#resumesAt - performance.now();
    }
  }

  #begin(claim: Claim, signal: AbortSignal): void {
    const { connectionId } = claim;
    this.#beganAt = performance.now();
    this.#lanes.begin(connectionId);
    const done = this.#one(claim, signal)
      .catch((error: unknown) => {
        if (!signal.aborted) this.#stopped(error);
      })
      .finally(() => {
        this.#lanes.end(connectionId);
        this.#inHand.delete(claim);
        this.#alarm.ring();
      });
    this.#inHand.set(claim, done);
  }

  /** @throws what concerns more than this attachment and its connection. */
  async #one(claim: Claim, signal: AbortSignal): Promise<void> {
    const { db, listen } = this.#context;
    const { connectionId } = claim;
    const startedAt = performance.now();
    try {
      const stored = await download(this.#context, claim, signal);
      this.#served(connectionId);
      this.#resumed();
      const took = performance.now() - startedAt;
      if (stored !== undefined) listen({ type: 'stored', connectionId, bytes: stored.bytes, took });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ReplicaError) || error.kind === 'media_store') {
        await releaseClaims(db, [claim]);
        throw error;
      }
      await this.#failed(claim, error, signal);
    }
  }

  /** Judges what concerns this attachment or its connection. */
  async #failed(claim: Claim, error: ReplicaError, signal: AbortSignal): Promise<void> {
    const { db, listen, backoff: bounds, window } = this.#context;
    const { connectionId } = claim;
    const { kind } = error;
    const why = { kind, message: error.message };
    const isGone = kind === 'not_found' || error.status === 410;
    if (OF_THE_KEY.has(kind) || error.status === 401) return await this.#hold(claim, error);
    if (isGone || OF_THE_CONNECTION.has(kind)) {
      const hidden = await this.#unreached(connectionId, error, signal);
      if (hidden !== undefined) return await this.#hold(claim, hidden);
    }
    if (isGone) {
      this.#answered(connectionId);
      if (await noteGone(db, claim, 'unavailable', why)) {
        listen({ type: 'gone', connectionId, state: 'unavailable', error });
      }
    } else if (kind === 'oversize') {
      this.#served(connectionId);
      if (await noteGone(db, claim, 'failed', why)) {
        listen({ type: 'gone', connectionId, state: 'failed', error });
      }
    } else {
      const delay = backoff(claim.attempts, { min: bounds.min, max: MOST_DELAY }, this.#asked(error));
      const again = await noteRetry(db, claim, why, delay, window * WINDOW_MARGIN);
      if (again === false) listen({ type: 'gone', connectionId, state: 'failed', error });
      if (again) {
        listen({ type: 'again', connectionId, error });
        this.#dueAt = Math.min(this.#dueAt, performance.now() + delay);
      }
      this.#holdBack(connectionId, error, this.#lanes.failed(connectionId, 1));
    }
  }

  /**
   * A connection that is not reached answers 404 to everything, and one that is not ready 503: what is served of it
   * just now, or how it stands, tells whether such an answer is the attachment's own. Else a few of which WhatsApp has
   * lost the file would keep all others waiting.
   * @returns what hinders the connection; undefined where nothing does.
   */
  async #unreached(
    connectionId: ConnectionId,
    error: ReplicaError,
    signal: AbortSignal,
  ): Promise<ReplicaError | undefined> {
    const { admission, upstream } = this.#context;
    if (this.#lanes.isReached(connectionId, performance.now(), PROVEN_FOR)) return undefined;
    try {
      const { paired, connected } = await admission.ask(connectionId, EXPECTED_BYTES, signal, (key) =>
        upstream.pairingStatus(key, connectionId, signal),
      );
      if (OF_THE_CONNECTION.has(error.kind) && (paired === false || connected === false)) return error;
    } catch (cause) {
      if (cause instanceof ReplicaError) return cause;
      throw cause;
    }
    this.#lanes.reached(connectionId, performance.now());
    return undefined;
  }

  /** Gives an attachment back that its connection hinders, and holds that back. */
  async #hold(claim: Claim, error: ReplicaError): Promise<void> {
    await releaseClaims(this.#context.db, [claim]);
    this.#holdBack(claim.connectionId, error, this.#lanes.failed(claim.connectionId, 'whole'));
  }

  /** @param failures beyond what is tolerated; 0 for none. */
  #holdBack(connectionId: ConnectionId, error: ReplicaError, failures: number): void {
    if (failures === 0) return;
    const { backoff: bounds, listen } = this.#context;
    const retryIn = error.verdict === 'park' ? bounds.max : backoff(failures - 1, bounds, this.#asked(error));
    this.#lanes.hold(connectionId, performance.now() + retryIn);
    listen({ type: 'held', connectionId, error, failures, retryIn });
  }

  /** What a Retry-After asks for, bounded as everywhere (R13), in milliseconds. */
  #asked({ retryAfter = 0 }: ReplicaError): number {
    return Math.min(retryAfter, this.#context.backoff.max * 4);
  }

  #served(connectionId: ConnectionId): void {
    this.#lanes.reached(connectionId, performance.now());
    this.#answered(connectionId);
  }

  #answered(connectionId: ConnectionId): void {
    const failures = this.#lanes.answered(connectionId);
    if (failures > 0) this.#context.listen({ type: 'released', connectionId, failures });
  }

  /** The store or the database fails: everything waits. Downloads that fail together are one failure. */
  #stopped(cause: unknown): void {
    const now = performance.now();
    if (now < this.#resumesAt) return;
    const { listen, backoff: bounds } = this.#context;
    const error = ReplicaError.from('internal', cause, 'fetching attachments');
    const retryIn = backoff(this.#failures++, bounds);
    this.#checked = false;
    this.#resumesAt = now + retryIn;
    listen({ type: 'stopped', error, failures: this.#failures, retryIn });
  }

  #resumed(): void {
    if (this.#failures > 0) this.#context.listen({ type: 'resumed', failures: this.#failures });
    this.#failures = 0;
  }

  /** Where it fails, a claim runs out, and what comes of its download is refused. */
  async #renew(): Promise<void> {
    const claims = [...this.#inHand.keys()];
    if (claims.length > 0) await renewClaims(this.#context.db, claims, CLAIM_TTL).catch(() => {});
  }
}

/** Kinds of failures that are never one attachment's alone. */
const OF_THE_KEY: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['rate_limited', 'payment_required']);

/** Those that are the connection's, unless it is known to be reached. */
const OF_THE_CONNECTION: ReadonlySet<ErrorKind> = new Set<ErrorKind>([
  'unauthorized',
  'not_paired',
  'not_ready',
]);

/** What is held for an answer that says how a connection stands, in bytes. */
const EXPECTED_BYTES = 4_096;
