import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { identifier } from '../lib/identifiers.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import { beginInstead, knownConnections, renameConnection } from '../store/connections.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';
import type { Directory } from './directory.ts';
import type { Listener } from './events.ts';
import type { Pairings } from './pairings.ts';

export interface NamingContext {
  readonly db: Kysely<Database>;
  /** For what may take long. */
  readonly maintenance: Kysely<Database>;
  readonly directory: Directory;
  readonly listen: Listener;
}

/** What became of the connection without a name. */
export interface Named {
  /** Connections of which it cannot be told whether they are that one; they wait. */
  readonly undecided: readonly ConnectionId[];
  /** Whether none of the others is known to be it, nor may turn out to be. */
  readonly left: boolean;
  readonly renamed?: ConnectionId;
}

/** What is known of others beside the connection without a name. */
interface Compared {
  /** The one that has its account. */
  readonly same: ConnectionId | undefined;
  readonly undecided: readonly ConnectionId[];
  /** Whether one of them is not paired. */
  readonly unpaired: boolean;
}

/**
 * Finds which id belongs to the connection that was replicated without one, as a key that lists none has it (R21): the
 * one with the same account.
 */
export class Naming {
  readonly #context: NamingContext;
  readonly #pairings: Pairings;
  #idsListed = false;

  constructor(context: NamingContext, pairings: Pairings) {
    this.#context = context;
    this.#pairings = pairings;
  }

  /** Ids were named since the start: from then on a request without the header may mean any of them. */
  get idsListed(): boolean {
    return this.#idsListed;
  }

  /**
   * Until it can be told which of them it is, none that is new is begun, or what is stored would be stored twice. The
   * same where it was removed since, as its account was not listed for a while. Where nothing is stored of it, as of an
   * organization that had no account yet, there is nothing to tell.
   * @param from whether keys list the ids, or a person gives them.
   * @throws what the database throws.
   */
  async settle(ids: readonly ConnectionId[], from: 'listed' | 'given', signal: AbortSignal): Promise<Named> {
    const { db, maintenance, directory, listen } = this.#context;
    const known = await knownConnections(db);
    const unnamed = known.find((one) => one.connectionId === UNNAMED_CONNECTION);
    const named = ids.filter((id) => id !== UNNAMED_CONNECTION);
    if (named.length > 0) this.#idsListed = true;
    if (unnamed === undefined || named.length === 0) return { undecided: [], left: false };
    // Nothing can tell any more.
    if (unnamed.removed && unnamed.jid === null) return { undecided: [], left: false };
    directory.forget(UNNAMED_CONNECTION);
    const unknown = named.filter((id) => !known.some((one) => one.connectionId === id));
    const { same, undecided, unpaired } = await this.#compare(unnamed, unknown, signal);
    if (same !== undefined) {
      await this.#rename(same);
      return { undecided: [], left: false, renamed: same };
    }
    if (undecided.length > 0) {
      // An id that a person gives may be a slip, which must not take the place of what is replicated.
      const begun =
        from === 'listed' &&
        (await inTransaction(maintenance, BESIDE, (trx) => beginInstead(trx, UNNAMED_CONNECTION, undecided)));
      // Nothing is stored that could be stored twice.
      if (begun) return { undecided: [], left: false };
      listen({ type: 'discovery_failed', error: cannotTell() });
    }
    // One that is not paired serves nothing that could be lost by waiting.
    return { undecided, left: !unpaired };
  }

  async #compare(
    { jid, removed }: { readonly jid: string | null; readonly removed: boolean },
    unknown: readonly ConnectionId[],
    signal: AbortSignal,
  ): Promise<Compared> {
    const isAsked = jid === null && unknown.length > 0;
    const told = isAsked ? await this.#pairings.accountOf(UNNAMED_CONNECTION, 0, signal) : undefined;
    const account = jid ?? told?.jid ?? undefined;
    // All at once: one that hangs keeps no other waiting, and the rate of a key holds for all of them.
    const found = new AbortController();
    const decided = AbortSignal.any([signal, found.signal]);
    const undecided: ConnectionId[] = [];
    let unpaired = false;
    let same: ConnectionId | undefined;
    const judge = async (id: ConnectionId) => {
      const status =
        account === undefined ? undefined : await this.#pairings.accountOf(id, unknown.length, decided);
      if (status?.paired === false) unpaired = true;
      // For one that is removed, none waits that never tells its account.
      const waits = !removed || status === undefined || status.paired === false;
      if (status?.jid == null) {
        if (waits) undecided.push(id);
      } else if (account !== undefined && isSameAccount(status.jid, account)) {
        same ??= id;
        found.abort();
      }
    };
    await Promise.all(unknown.map(judge));
    return { same, undecided, unpaired };
  }

  async #rename(to: ConnectionId): Promise<void> {
    const { maintenance, listen } = this.#context;
    const renamed = await inTransaction(maintenance, BESIDE, async (trx) => {
      await lockState(trx, UNNAMED_CONNECTION);
      return await renameConnection(trx, UNNAMED_CONNECTION, to);
    });
    if (renamed) listen({ type: 'connection_renamed', connectionId: to });
  }
}

/** A JID may tell the device, which is another one after each pairing. */
function isSameAccount(jid: string, other: string): boolean {
  return identifier(jid) === identifier(other);
}

function cannotTell(): ReplicaError {
  return new ReplicaError('not_ready', {
    where: 'telling which of the listed connections is the one without a name',
    hint: 'it waits for GET /v1/whatsapp/status to name their accounts; see that they are paired',
  });
}
