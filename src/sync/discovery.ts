import type { Kysely } from 'kysely';
import { jitter } from '../lib/backoff.ts';
import { sleep } from '../lib/wait.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import {
  ensureConnections,
  knownConnections,
  markRemoved,
  notePairing,
  renameConnection,
} from '../store/connections.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import type { UpstreamClient } from '../upstream/client.ts';
import type { Directory, Looked } from './directory.ts';
import type { Listener } from './events.ts';

export interface DiscoveryContext {
  readonly db: Kysely<Database>;
  /** For what may take long. */
  readonly maintenance: Kysely<Database>;
  readonly upstream: UpstreamClient;
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
  readonly #context: DiscoveryContext;
  /** Since when, and how often, connections were missing. */
  readonly #missing = new Map<ConnectionId, { times: number; since: number }>();
  readonly #notFound = new Set<ConnectionId>();

  constructor(context: DiscoveryContext) {
    this.#context = context;
  }

  /**
   * Looks once. What the database knows is replicated whatever the upstream says now.
   * @throws the first error of the upstream where nothing is known at all; what the database throws.
   */
  async look(signal: AbortSignal): Promise<void> {
    const { db, upstream, directory, listen } = this.#context;
    const known = await knownConnections(db);
    directory.assume(known.filter((one) => !one.removed).map((one) => one.connectionId));
    const looked = await directory.look(upstream, signal);
    if (directory.connections.length === 0 && looked.errors.length > 0) throw looked.errors[0];
    for (const error of looked.errors) listen({ type: 'discovery_failed', error });
    if (looked.nameless > 0) listen({ type: 'nameless_keys', keys: looked.nameless });
    await this.#nameUnnamed(looked, signal);
    const before = new Set(known.map((one) => one.connectionId));
    await ensureConnections(db, looked.listed);
    for (const connectionId of looked.listed) {
      if (!before.has(connectionId)) listen({ type: 'connection_found', connectionId });
    }
    await this.#judgeMissing(looked);
  }

  /** A connection answered 404: where it is not listed either, it is gone at once. */
  notFound(connectionId: ConnectionId): void {
    this.#notFound.add(connectionId);
  }

  /** Follows the pairing of connections: one request each, spread over `within` milliseconds. */
  async followPairing(
    connectionIds: readonly ConnectionId[],
    within: number,
    signal: AbortSignal,
  ): Promise<void> {
    for (const connectionId of connectionIds) {
      if (signal.aborted) return;
      await this.followOne(connectionId, signal);
      await sleep(within / connectionIds.length, signal);
    }
  }

  /** Asks for one connection's pairing; a failure is the loop's to tell, which asks the same upstream. */
  async followOne(connectionId: ConnectionId, signal: AbortSignal): Promise<void> {
    const { db, upstream, directory } = this.#context;
    try {
      const status = await upstream.pairingStatus(directory.keyOf(connectionId), connectionId, signal);
      await notePairing(db, connectionId, status);
    } catch {
      return;
    }
  }

  async #judgeMissing({ missing }: Looked): Promise<void> {
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

  /** Ids are listed now where there was one connection without a name: it is the one with the same account. */
  async #nameUnnamed({ listed }: Looked, signal: AbortSignal): Promise<void> {
    const { db, maintenance, upstream, directory, listen } = this.#context;
    const unnamed = (await knownConnections(db)).find((one) => one.connectionId === UNNAMED_CONNECTION);
    const named = listed.filter((id) => id !== UNNAMED_CONNECTION);
    if (unnamed === undefined || unnamed.removed || named.length === 0) return;
    const ask = async (id: ConnectionId) =>
      (await upstream.pairingStatus(directory.keyOf(id), id, signal).catch(() => undefined))?.jid ??
      undefined;
    const account = unnamed.jid ?? (await ask(UNNAMED_CONNECTION));
    if (account === undefined) return;
    for (const id of named) {
      if ((await ask(id)) !== account) continue;
      const renamed = await maintenance.transaction().execute(async (trx) => {
        await lockState(trx, UNNAMED_CONNECTION);
        return await renameConnection(trx, UNNAMED_CONNECTION, id);
      });
      if (renamed) listen({ type: 'connection_renamed', connectionId: id });
      directory.forget(UNNAMED_CONNECTION);
      return;
    }
  }
}

/**
 * Looks again every `interval` milliseconds until the signal.
 * @param held the connections that this worker replicates: it follows their pairing.
 */
export async function discover(
  discovery: Discovery,
  interval: number,
  held: () => readonly ConnectionId[],
  listen: Listener,
  signal: AbortSignal,
): Promise<void> {
  await discovery.followPairing(held(), Math.min(interval, 10_000), signal);
  while (!signal.aborted) {
    await sleep(jitter(interval), signal);
    if (signal.aborted) return;
    try {
      await discovery.look(signal);
    } catch (error) {
      if (!signal.aborted) listen({ type: 'discovery_failed', error });
    }
    await discovery.followPairing(held(), interval / 2, signal);
  }
}
