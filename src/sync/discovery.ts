import { jitter } from '../lib/backoff.ts';
import { sleep } from '../lib/wait.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import { ensureConnections, knownConnections, markRemoved } from '../store/connections.ts';
import type { ApiKey } from '../upstream/api-key.ts';
import type { Listener } from './events.ts';
import { Naming, type NamingContext } from './naming.ts';
import { Pairings, type PairingsContext } from './pairings.ts';

export interface DiscoveryContext extends PairingsContext, NamingContext {
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
  readonly #naming: Naming;
  #keysFailing = 0;

  constructor(context: DiscoveryContext) {
    this.#context = context;
    this.pairings = new Pairings(context);
    this.#naming = new Naming(context, this.pairings);
  }

  /** Keys of which it could not tell at the last look what they list: none of what only they list is replicated before. */
  get keysFailing(): number {
    return this.#keysFailing;
  }

  /**
   * Looks once. What the database knows is replicated whatever the upstream says now.
   * @returns listed connections that wait: any of them may be the one without a name.
   * @throws the first error of the upstream where nothing is known at all; what the database throws.
   */
  async look(signal: AbortSignal): Promise<readonly ConnectionId[]> {
    const { db, upstream, admission, directory, listen } = this.#context;
    const known = await knownConnections(db);
    const active = known.filter((one) => !one.removed).map((one) => one.connectionId);
    directory.follow(active.filter((id) => id !== UNNAMED_CONNECTION || !this.#naming.idsListed));
    const me = (key: ApiKey) => admission.ofKey(key, 'GET /v1/me', () => upstream.me(key, signal));
    const looked = await directory.look(me, signal);
    this.#keysFailing = looked.errors.length + looked.nameless;
    if (directory.connections.length === 0 && looked.errors.length > 0) throw looked.errors[0];
    for (const error of looked.errors) listen({ type: 'discovery_failed', error });
    if (looked.nameless > 0) listen({ type: 'nameless_keys', keys: looked.nameless });
    const naming = await this.#naming.settle(looked.listed, 'listed', signal);
    for (const id of naming.undecided) directory.forget(id);
    const begun = looked.listed.filter((id) => !naming.undecided.includes(id));
    await ensureConnections(db, begun);
    const before = new Set(known.map((one) => one.connectionId)).add(naming.renamed ?? UNNAMED_CONNECTION);
    for (const connectionId of begun) {
      if (!before.has(connectionId)) listen({ type: 'connection_found', connectionId });
    }
    const missing = looked.missing.filter((id) => id !== UNNAMED_CONNECTION);
    const isLeft = naming.left && looked.errors.length === 0;
    await this.#judgeMissing(isLeft ? [...missing, UNNAMED_CONNECTION] : missing);
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
    const { undecided } = await this.#naming.settle(connectionIds, 'given', signal);
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
