import type { Kysely } from 'kysely';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { notePairing } from '../store/connections.ts';
import type { Database } from '../store/schema.ts';
import type { PairingStatus, UpstreamClient } from '../upstream/client.ts';
import type { Admission } from './admission.ts';

export interface PairingsContext {
  readonly db: Kysely<Database>;
  readonly upstream: UpstreamClient;
  readonly admission: Admission;
}

/** What an answer about the pairing may take: in milliseconds, and in bytes of the budget. */
const PAIRING_TIMEOUT = 5_000;
const PAIRING_BYTES = 4_096;
/** What one may take where connections wait for it, in milliseconds. */
const NAMING_TIMEOUT = 30_000;

/** Which account is paired with which connection, as the upstream tells it. */
export class Pairings {
  readonly #context: PairingsContext;

  constructor(context: PairingsContext) {
    this.#context = context;
  }

  /** Follows the pairing of connections: one request each, spread over `within` milliseconds. */
  async follow(connectionIds: readonly ConnectionId[], within: number, signal: AbortSignal): Promise<void> {
    for (const connectionId of connectionIds) {
      if (signal.aborted) return;
      await this.followOne(connectionId, signal);
      await sleep(within / connectionIds.length, signal);
    }
  }

  /** Asks for one connection's pairing; a failure is the loop's to tell, which asks the same upstream. */
  async followOne(connectionId: ConnectionId, signal: AbortSignal): Promise<void> {
    // The loop waits meanwhile.
    const soon = AbortSignal.any([signal, AbortSignal.timeout(PAIRING_TIMEOUT)]);
    try {
      await notePairing(this.#context.db, connectionId, await this.#of(connectionId, soon));
    } catch {
      return;
    }
  }

  /** A request like any other: within the rate of its key, and not while that is limited. */
  async #of(connectionId: ConnectionId, signal: AbortSignal): Promise<PairingStatus> {
    const { upstream, admission } = this.#context;
    return await admission.ask(connectionId, PAIRING_BYTES, signal, (key) =>
      upstream.pairingStatus(key, connectionId, signal),
    );
  }

  /** The account of one that others wait for; undefined where it cannot be told in time.
   * @param beside how many are asked for with it: a key has a request a second at the least. */
  async accountOf(
    connectionId: ConnectionId,
    beside: number,
    signal: AbortSignal,
  ): Promise<PairingStatus | undefined> {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(NAMING_TIMEOUT + beside * 1_000)]);
    return await this.#of(connectionId, soon).catch(() => undefined);
  }
}
