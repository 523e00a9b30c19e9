import { randomBytes } from 'node:crypto';
import { ReplicaError } from '../errors/errors.ts';
import { backoff } from '../lib/backoff.ts';
import { Alarm } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import {
  type Claim,
  type ClaimOrder,
  claimMedia,
  releaseClaims,
  renewClaims,
} from '../store/media-claims.ts';
import { type DownloadContext, download } from './download.ts';
import { Lanes } from './lanes.ts';
import { ownerOf } from './owner.ts';
import { Refusals, type RefusalsContext } from './refusals.ts';

export interface ArchiveContext extends DownloadContext, RefusalsContext {
  readonly schema: string;
  readonly connections: () => readonly ConnectionId[];
  /** Downloads at a time, of this process. */
  readonly concurrency: number;
  /** Whether messages are behind: they have the machine first, and one download at a time goes on beside them. */
  readonly isBehind: () => boolean;
}

/** How long a claim holds, and how often it is renewed, in milliseconds: a killed worker's come free so soon. */
const CLAIM_TTL = 60_000;
const RENEW_EVERY = 20_000;

/** How often the queue is looked at while nothing rings, in milliseconds: other workers fill it too. */
const LOOK_EVERY = 5_000;

/** While messages wait for the same cores, one attachment is begun in so many milliseconds, one at a time. */
const BEHIND_EVERY = 1_000;

/** How long a download may wait for its key alone, in milliseconds: one that waits takes the room of those of another key. */
const KEY_WAIT = 1_000;

/** What is claimed, by turns: a few that are new and fail for good must not take all of them. */
const ORDERS = ['newest', 'untried', 'oldest', 'untried'] as const;

/**
 * Fetches what is in the queue, until it is told to stop. Several processes share one queue by claims. What fails for one
 * attachment delays that one; what fails for a connection, the connection; and what fails for the store, everything:
 * the messages never wait for any of it.
 */
export class MediaArchive {
  readonly #context: ArchiveContext;
  readonly #lanes: Lanes;
  readonly #refusals: Refusals;
  readonly #alarm = new Alarm();
  readonly #inHand = new Map<Claim, Promise<void>>();
  /** What ended after the signal: of one that is done, giving it back does nothing. */
  readonly #dropped: Claim[] = [];
  #claims = 0;
  #beganAt = Number.NEGATIVE_INFINITY;
  /** Refusals of the store or the database in a row, and until when nothing is begun after the last one. */
  #failures = 0;
  #resumesAt = 0;
  /** When the next attachment is due that failed here: a reading of the monotonic clock. */
  #dueAt = Number.POSITIVE_INFINITY;
  /** Whether the store is known to be reachable and ours. */
  #checked = false;

  constructor(context: ArchiveContext) {
    this.#context = context;
    this.#lanes = new Lanes(context.concurrency);
    this.#refusals = new Refusals(context, this.#lanes);
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
      await Promise.all(this.#inHand.values());
      if (this.#dropped.length > 0) await releaseClaims(this.#context.db, this.#dropped).catch(() => {});
    }
  }

  /** Begins as much as there is room for.
   * @returns how long there is nothing to do unless something rings, in milliseconds. */
  async #fill(signal: AbortSignal): Promise<number> {
    const { db, store, schema, concurrency, connections, admission, isBehind } = this.#context;
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
      const keyIn = new Map(connections().map((id) => [id, admission.besideIn(id) - KEY_WAIT]));
      const rooms = this.#lanes
        .rooms([...keyIn.keys()], now)
        .filter((one) => keyIn.get(one.connectionId)! <= 0);
      const free = (behind ? 1 : concurrency) - this.#inHand.size;
      if (free > 0 && rooms.length > 0) {
        const claim = (order: ClaimOrder) =>
          claimMedia(db, rooms, free, order, randomBytes(12).toString('hex'), CLAIM_TTL);
        const order = ORDERS[this.#claims++ % ORDERS.length]!;
        let claims = await claim(order);
        if (claims.length === 0 && order === 'untried') claims = await claim('newest');
        for (const claim of claims) this.#begin(claim, signal);
      }
      // Neither hinders anything then, whether nothing waits or the upstream holds all of it up.
      if (this.#inHand.size === 0) this.#resumed();
      const keysIn = [...keyIn.values()].filter((ms) => ms > 0);
      return Math.min(LOOK_EVERY, this.#lanes.opensIn(now), this.#dueAt - now, ...keysIn);
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
        if (signal.aborted) this.#dropped.push(claim);
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
      this.#refusals.served(connectionId, startedAt);
      this.#resumed();
      const took = performance.now() - startedAt;
      if (stored !== undefined) listen({ type: 'stored', connectionId, bytes: stored.bytes, took });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ReplicaError) || error.kind === 'media_store') {
        await releaseClaims(db, [claim]);
        throw error;
      }
      const again = await this.#refusals.judge(claim, error, startedAt, signal);
      if (again !== undefined) this.#dueAt = Math.min(this.#dueAt, performance.now() + again);
    }
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
