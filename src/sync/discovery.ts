import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { jitter } from '../lib/backoff.ts';
import { identifier } from '../lib/identifiers.ts';
import { sleep } from '../lib/wait.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import {
  beginInstead,
  ensureConnections,
  knownConnections,
  markRemoved,
  renameConnection,
} from '../store/connections.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import { BESIDE, inTransaction } from '../store/transaction.ts';
import type { Directory, Looked } from './directory.ts';
import type { Listener } from './events.ts';
import { Pairings, type PairingsContext } from './pairings.ts';

export interface DiscoveryContext extends PairingsContext {
  /** For what may take long. */
  readonly maintenance: Kysely<Database>;
  readonly directory: Directory;
  readonly listen: Listener;
  readonly removal: Removal;
}

/** Look-ups and time, in milliseconds, after which a connection that is not listed counts as removed (R21). */
export interface Removal {
  readonly looks: number;
  readonly after: number;
}

/** As the contract says: three look-ups over an hour. */
export const REMOVAL: Removal = { looks: 3, after: 3_600_000 };

/** Keeps the directory and the table of connections in step with what the keys list (R21). */
export class Discovery {
  readonly pairings: Pairings;
  readonly #context: DiscoveryContext;
  /** Since when, and how often, connections were missing. */
  readonly #missing = new Map<ConnectionId, { times: number; since: number }>();
  readonly #notFound = new Set<ConnectionId>();
  /** Ids were listed since the start: from then on a request without the header may mean any of them. */
  #idsListed = false;

  constructor(context: DiscoveryContext) {
    this.#context = context;
    this.pairings = new Pairings(context);
  }

  /**
   * Looks once. What the database knows is replicated whatever the upstream says now.
   * @returns listed connections that wait: any of them may be the one without a name.
   * @throws the first error of the upstream where nothing is known at all; what the database throws.
   */
  async look(signal: AbortSignal): Promise<readonly ConnectionId[]> {
    const { db, upstream, directory, listen } = this.#context;
    const known = await knownConnections(db);
    const active = known.filter((one) => !one.removed).map((one) => one.connectionId);
    directory.follow(active.filter((id) => id !== UNNAMED_CONNECTION || !this.#idsListed));
    const looked = await directory.look(upstream, signal);
    if (directory.connections.length === 0 && looked.errors.length > 0) throw looked.errors[0];
    for (const error of looked.errors) listen({ type: 'discovery_failed', error });
    if (looked.nameless > 0) listen({ type: 'nameless_keys', keys: looked.nameless });
    const naming = await this.#nameUnnamed({ ...looked, named: looked.listed, areListed: true }, signal);
    for (const id of naming.undecided) directory.forget(id);
    const begun = looked.listed.filter((id) => !naming.undecided.includes(id));
    await ensureConnections(db, begun);
    const before = new Set(known.map((one) => one.connectionId)).add(naming.renamed ?? UNNAMED_CONNECTION);
    for (const connectionId of begun) {
      if (!before.has(connectionId)) listen({ type: 'connection_found', connectionId });
    }
    const missing = looked.missing.filter((id) => id !== UNNAMED_CONNECTION);
    await this.#judgeMissing(naming.left ? [...missing, UNNAMED_CONNECTION] : missing);
    // Once others are listed, it cannot be asked for without its id, and is known by its account alone.
    const unnamed = known.find((one) => one.connectionId === UNNAMED_CONNECTION);
    if (unnamed?.jid == null && directory.connections.includes(UNNAMED_CONNECTION)) {
      await this.pairings.followOne(UNNAMED_CONNECTION, signal);
    }
    return naming.undecided;
  }

  /**
   * Makes connections known that a person names, listed or not.
   * @returns those of them that wait: any of them may be the one without a name.
   * @throws what the database throws.
   */
  async begin(connectionIds: readonly ConnectionId[], signal: AbortSignal): Promise<readonly ConnectionId[]> {
    const { db, directory } = this.#context;
    directory.assume(connectionIds);
    const { undecided } = await this.#nameUnnamed({ named: connectionIds, errors: [] }, signal);
    await ensureConnections(
      db,
      connectionIds.filter((id) => !undecided.includes(id)),
    );
    return undecided;
  }

  /** A connection answered 404: where it is not listed either, it is gone at once. */
  notFound(connectionId: ConnectionId): void {
    this.#notFound.add(connectionId);
  }

  /** It answers again: whatever that 404 was, it is over. */
  found(connectionId: ConnectionId): void {
    this.#notFound.delete(connectionId);
  }

  async #judgeMissing(missing: readonly ConnectionId[]): Promise<void> {
    const { db, directory, listen, removal } = this.#context;
    const now = performance.now();
    const gone: ConnectionId[] = [];
    for (const id of this.#missing.keys()) if (!missing.includes(id)) this.#missing.delete(id);
    for (const id of missing) {
      const { times, since } = this.#missing.get(id) ?? { times: 0, since: now };
      this.#missing.set(id, { times: times + 1, since });
      const long = times + 1 >= removal.looks && now - since >= removal.after;
      if (long || this.#notFound.has(id)) gone.push(id);
    }
    this.#notFound.clear();
    for (const connectionId of await markRemoved(db, gone))
      listen({ type: 'connection_removed', connectionId });
    for (const id of gone) {
      directory.forget(id);
      this.#missing.delete(id);
    }
  }

  /**
   * Ids are listed now where there was one connection without a name: it is the one with the same account. Until that
   * can be told, none of the new ones is begun, or what is stored would be stored twice. The same where it was removed
   * since, as its account was not listed for a while. Where nothing is, as of an organization that had no account yet,
   * there is nothing to tell.
   */
  async #nameUnnamed({ named: all, errors, areListed = false }: Named, signal: AbortSignal): Promise<Naming> {
    const { db, maintenance, directory, listen } = this.#context;
    const known = await knownConnections(db);
    const unnamed = known.find((one) => one.connectionId === UNNAMED_CONNECTION);
    const named = all.filter((id) => id !== UNNAMED_CONNECTION);
    if (named.length > 0) this.#idsListed = true;
    if (unnamed === undefined || named.length === 0) return { undecided: [], left: false };
    const { jid, removed } = unnamed;
    // Nothing can tell any more.
    if (removed && jid === null) return { undecided: [], left: false };
    directory.forget(UNNAMED_CONNECTION);
    const unknown = named.filter((id) => !known.some((one) => one.connectionId === id));
    const isAsked = jid === null && unknown.length > 0;
    const told = isAsked ? await this.pairings.accountOf(UNNAMED_CONNECTION, 0, signal) : undefined;
    const account = jid ?? told?.jid ?? undefined;
    // All at once: one that hangs keeps no other waiting, and the rate of a key holds for all of them.
    const found = new AbortController();
    const decided = AbortSignal.any([signal, found.signal]);
    const undecided: ConnectionId[] = [];
    let unpaired = false;
    let same: ConnectionId | undefined;
    const judge = async (id: ConnectionId) => {
      const status =
        account === undefined ? undefined : await this.pairings.accountOf(id, unknown.length, decided);
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
    if (same !== undefined) {
      const id = same;
      const renamed = await inTransaction(maintenance, BESIDE, async (trx) => {
        await lockState(trx, UNNAMED_CONNECTION);
        return await renameConnection(trx, UNNAMED_CONNECTION, id);
      });
      if (renamed) listen({ type: 'connection_renamed', connectionId: id });
      return { undecided: [], left: false, renamed: id };
    }
    if (undecided.length > 0) {
      // An id that a person names may be a slip, which must not take the place of what is replicated.
      const begun =
        areListed &&
        (await inTransaction(maintenance, BESIDE, (trx) => beginInstead(trx, UNNAMED_CONNECTION, undecided)));
      // Nothing is stored that could be stored twice.
      if (begun) return { undecided: [], left: false };
      listen({ type: 'discovery_failed', error: cannotTell() });
    }
    // One that is not paired serves nothing that could be lost by waiting.
    return { undecided, left: !removed && errors.length === 0 && !unpaired };
  }
}

/** Ids that may be that of the connection without one. */
interface Named extends Pick<Looked, 'errors'> {
  readonly named: readonly ConnectionId[];
  /** Whether keys list them; else a person names them. */
  readonly areListed?: boolean;
}

/** What became of the connection without a name. */
interface Naming {
  /** Listed connections of which it cannot be told whether they are the unnamed one; they wait. */
  readonly undecided: readonly ConnectionId[];
  /** Whether it is still there, and none of the listed ones is known to be it. */
  readonly left: boolean;
  readonly renamed?: ConnectionId;
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

/** The time over which the first look at the pairing of connections is spread, in milliseconds. */
const FIRST_PAIRING = 10_000;

/**
 * Looks again every `interval` milliseconds until the signal, and follows the pairing meanwhile: an account that
 * hangs keeps no look-up waiting.
 * @param held the connections that this worker replicates: it follows their pairing.
 */
export async function discover(
  discovery: Discovery,
  interval: number,
  held: () => readonly ConnectionId[],
  listen: Listener,
  signal: AbortSignal,
): Promise<void> {
  const look = async () => {
    for (;;) {
      await sleep(jitter(interval), signal);
      if (signal.aborted) return;
      try {
        await discovery.look(signal);
      } catch (error) {
        if (!signal.aborted) listen({ type: 'discovery_failed', error });
      }
    }
  };
  const follow = async () => {
    let within = Math.min(interval, FIRST_PAIRING);
    while (!signal.aborted) {
      const ids = held();
      // At the start there is no lease yet.
      if (ids.length === 0) await sleep(Math.min(interval, 1_000), signal);
      else {
        await discovery.pairings.follow(ids, within, signal);
        within = interval;
      }
    }
  };
  await Promise.all([look(), follow()]);
}
