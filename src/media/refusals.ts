import type { Kysely } from 'kysely';
import { type ErrorKind, ReplicaError } from '../errors/errors.ts';
import { type BackoffBounds, backoff } from '../lib/backoff.ts';
import type { ConnectionId } from '../model.ts';
import { type Claim, noteGone, noteRetry, releaseClaims } from '../store/media-claims.ts';
import type { Database } from '../store/schema.ts';
import type { Admission } from '../sync/admission.ts';
import { pauseAfter } from '../sync/pace.ts';
import type { PairingStatus, UpstreamClient } from '../upstream/client.ts';
import type { MediaListener } from './events.ts';
import type { Lanes } from './lanes.ts';

export interface RefusalsContext {
  readonly db: Kysely<Database>;
  readonly admission: Admission;
  readonly upstream: UpstreamClient;
  readonly backoff: BackoffBounds;
  /** The upstream's memory, RETENTION_WINDOW, in milliseconds. */
  readonly window: number;
  readonly listen: MediaListener;
}

/** Kinds of failures that are never one attachment's alone. */
const OF_THE_KEY: ReadonlySet<ErrorKind> = new Set<ErrorKind>(['rate_limited', 'payment_required']);

/** Those that are the connection's, unless it is known to be reached. */
const OF_THE_CONNECTION: ReadonlySet<ErrorKind> = new Set<ErrorKind>([
  'unauthorized',
  'not_paired',
  'not_ready',
]);

/** The longest delay before one attachment is tried again, in milliseconds. */
const MOST_DELAY = 6 * 3_600_000;

/** For how long a connection that was reached is taken for one that is, in milliseconds: not where that is final. */
const PROVEN_FOR = 60_000;

/** A message's last moments in the upstream's memory are not told to the second. */
const WINDOW_MARGIN = 1.1;

/** What is held for an answer that says how a connection stands, in bytes. */
const EXPECTED_BYTES = 4_096;

/**
 * Judges what the upstream refuses: whether the attachment is gone, is tried again by itself, or the whole connection is
 * held back.
 */
export class Refusals {
  readonly #context: RefusalsContext;
  readonly #lanes: Lanes;
  /** How a connection stands, where that is being asked, and since when: downloads that are refused together ask once. */
  readonly #asking = new Map<ConnectionId, { since: number; standing: Promise<PairingStatus> }>();

  constructor(context: RefusalsContext, lanes: Lanes) {
    this.#context = context;
    this.#lanes = lanes;
  }

  /** The upstream served a file of the connection.
   * @param begunAt when its download began: a reading of the monotonic clock. When it ended says nothing, for that may be
   * minutes after the answer began. */
  served(connectionId: ConnectionId, begunAt: number): void {
    this.#lanes.reached(connectionId, begunAt);
    this.#answered(connectionId);
  }

  /**
   * Notes what comes of an attachment that could not be had, and of its connection.
   * @param begunAt when its download began: a reading of the monotonic clock.
   * @returns in how many milliseconds it is tried again; undefined where it is not, or with its connection.
   * @throws what the database throws.
   */
  async judge(
    claim: Claim,
    error: ReplicaError,
    begunAt: number,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { db, listen, backoff: bounds, window } = this.#context;
    const { connectionId } = claim;
    const { kind } = error;
    const why = { kind, message: error.message };
    const hindered = await this.#hindrance(connectionId, error, begunAt, signal);
    if (hindered !== undefined && hindered !== 'unlinked') {
      await releaseClaims(db, [claim]);
      this.#holdBack(connectionId, hindered, this.#lanes.failed(connectionId, 'whole'));
      return undefined;
    }
    if ((isGone(error) && hindered === undefined) || kind === 'oversize') {
      const state = isGone(error) ? 'unavailable' : 'failed';
      if (isGone(error)) this.#answered(connectionId);
      else this.served(connectionId, begunAt);
      if (await noteGone(db, claim, state, why)) listen({ type: 'gone', connectionId, state, error });
      return undefined;
    }
    const delay = backoff(claim.attempts, { min: bounds.min, max: MOST_DELAY }, this.#asked(error));
    const again = await noteRetry(db, claim, why, delay, window * WINDOW_MARGIN);
    const told = hindered === 'unlinked' ? whileUnlinked(error) : error;
    if (again === false) listen({ type: 'gone', connectionId, state: 'failed', error: told });
    if (again) listen({ type: 'again', connectionId, error: told });
    this.#holdBack(connectionId, told, this.#lanes.failed(connectionId, 1));
    return again ? delay : undefined;
  }

  /**
   * A connection that is not reached answers 404 to everything, and one that is not ready 503: what is served of it
   * just now, or how it stands, tells whether such an answer is the attachment's own. Else a few of which WhatsApp has
   * lost the file would keep all others waiting. What is final is believed of a connection that was reached since the
   * download began: thousands are refused within a minute. Whether it is of an account that is not paired, or not
   * connected, the upstream does not document: WhatsApp may have the file again once it is.
   * @returns what hinders the connection; `unlinked` where the attachment may be gone for that alone; undefined where
   * nothing hinders it.
   */
  async #hindrance(
    connectionId: ConnectionId,
    error: ReplicaError,
    begunAt: number,
    signal: AbortSignal,
  ): Promise<ReplicaError | 'unlinked' | undefined> {
    if (OF_THE_KEY.has(error.kind) || error.status === 401) return error;
    if (!isGone(error) && !OF_THE_CONNECTION.has(error.kind)) return undefined;
    const since = isGone(error) ? begunAt : performance.now() - PROVEN_FOR;
    if (this.#lanes.isReached(connectionId, since)) return undefined;
    const asked = this.#ask(connectionId, since, signal);
    try {
      const { paired, connected } = await asked.standing;
      // One that is gone is delayed alone, so that it does not hold up what is served all the same.
      if (paired === false || connected === false) return isGone(error) ? 'unlinked' : error;
    } catch (cause) {
      if (cause instanceof ReplicaError) return cause;
      throw cause;
    }
    this.#lanes.reached(connectionId, asked.since);
    return undefined;
  }

  /** How it stands, as asked since then. */
  #ask(connectionId: ConnectionId, since: number, signal: AbortSignal) {
    const before = this.#asking.get(connectionId);
    if (before !== undefined && before.since >= since) return before;
    const { admission, upstream } = this.#context;
    const standing = admission
      .ask(connectionId, EXPECTED_BYTES, signal, (key) => upstream.pairingStatus(key, connectionId, signal))
      .finally(() => {
        if (this.#asking.get(connectionId) === asking) this.#asking.delete(connectionId);
      });
    const asking = { since: performance.now(), standing };
    this.#asking.set(connectionId, asking);
    return asking;
  }

  /** @param failures beyond what is tolerated; 0 for none. */
  #holdBack(connectionId: ConnectionId, error: ReplicaError, failures: number): void {
    if (failures === 0) return;
    const { backoff: bounds, listen } = this.#context;
    const retryIn = pauseAfter(error, failures, bounds);
    this.#lanes.hold(connectionId, performance.now() + retryIn);
    listen({ type: 'held', connectionId, error, failures, retryIn });
  }

  /** What a Retry-After asks for, bounded as everywhere (R13), in milliseconds. */
  #asked({ retryAfter = 0 }: ReplicaError): number {
    return Math.min(retryAfter, this.#context.backoff.max * 4);
  }

  #answered(connectionId: ConnectionId): void {
    const failures = this.#lanes.answered(connectionId);
    if (failures > 0) this.#context.listen({ type: 'released', connectionId, failures });
  }
}

/** The failure, with what to do about the account: the key reaches the connection. */
function whileUnlinked({ kind, where, code, status, retryAfter }: ReplicaError): ReplicaError {
  const hint = 'see that the WhatsApp account is paired and connected: the file may be served then';
  return new ReplicaError(kind, { where, code, status, retryAfter, hint });
}

/** Whether the answer says that there is no such file. */
function isGone({ kind, status }: ReplicaError): boolean {
  return kind === 'not_found' || status === 410;
}
