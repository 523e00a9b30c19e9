import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import type { ApiKey, UpstreamClient } from '../upstream/client.ts';
import { connectionsIn } from '../upstream/me.ts';

/** Which connections are replicated, and with which key each is asked for. */
export class Directory {
  readonly #keys: readonly ApiKey[];
  readonly #given: readonly ConnectionId[] | undefined;
  #keyOf = new Map<ConnectionId, ApiKey>();

  /**
   * @param keys at least one.
   * @param given the ids to replicate; undefined for those that the keys list.
   */
  constructor(keys: readonly ApiKey[], given: readonly ConnectionId[] | undefined) {
    this.#keys = keys;
    this.#given = given;
    // Connections that were given need no look-up where only one key could be theirs.
    if (given !== undefined && keys.length === 1) this.assume(given);
  }

  get connections(): readonly ConnectionId[] {
    return [...this.#keyOf.keys()];
  }

  keyOf(connectionId: ConnectionId): ApiKey {
    return this.#keyOf.get(connectionId) ?? this.#keys[0]!;
  }

  /** Takes connections for this deployment's without asking: what was given, or what the database knows. */
  assume(connectionIds: readonly ConnectionId[]): void {
    for (const id of connectionIds) if (!this.#keyOf.has(id)) this.#keyOf.set(id, this.#keys[0]!);
  }

  /**
   * Asks every key what it lists (`/v1/me`). A key that lists none is one connection without a name (R21).
   * @throws ReplicaError where the upstream does not answer; what was known stays.
   */
  async look(upstream: UpstreamClient, signal: AbortSignal): Promise<void> {
    if (this.#given !== undefined && this.#keys.length === 1) return;
    const found = new Map<ConnectionId, ApiKey>();
    for (const key of this.#keys) {
      const listed = connectionsIn(await upstream.me(key, signal)) ?? [];
      const ids = listed.length > 0 ? listed : [UNNAMED_CONNECTION];
      for (const id of ids) if (!found.has(id)) found.set(id, key);
    }
    const wanted = this.#given ?? [...found.keys()];
    this.#keyOf = new Map(wanted.map((id) => [id, found.get(id) ?? this.#keys[0]!]));
  }
}
