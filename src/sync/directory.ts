import { ReplicaError } from '../errors/errors.ts';
import { type ConnectionId, UNNAMED_CONNECTION } from '../model.ts';
import type { ApiKey } from '../upstream/api-key.ts';
import { connectionsIn } from '../upstream/me.ts';

/** What a look-up found. */
export interface Looked {
  /** Connections that the keys list and this deployment replicates. */
  readonly listed: readonly ConnectionId[];
  /** Known ones that no key lists any more; told apart from an outage: every key answered with a list. */
  readonly missing: readonly ConnectionId[];
  /** What went wrong with single keys; the others' lists count all the same. */
  readonly errors: readonly unknown[];
  /** Keys beyond the first that list nothing: whose connection is meant cannot be told. */
  readonly nameless: number;
}

/** Which connections are replicated, and with which key each is asked for. Knows no database. */
export class Directory {
  readonly #keys: readonly ApiKey[];
  readonly #given: readonly ConnectionId[] | undefined;
  readonly #keyOf = new Map<ConnectionId, ApiKey>();
  /** Those that no key has listed so far: whose they are is a guess. */
  readonly #assumed = new Set<ConnectionId>();

  /**
   * @param keys at least one, where anything is to be asked for.
   * @param given the ids to replicate; undefined for those that the keys list.
   */
  constructor(keys: readonly ApiKey[], given: readonly ConnectionId[] | undefined) {
    this.#keys = keys;
    this.#given = given;
    // Connections that were given need no look-up where only one key could be theirs.
    if (given !== undefined && keys.length === 1) this.assume(given);
  }

  get keys(): readonly ApiKey[] {
    return this.#keys;
  }

  get connections(): readonly ConnectionId[] {
    return [...this.#keyOf.keys()];
  }

  keyOf(connectionId: ConnectionId): ApiKey {
    return this.#keyOf.get(connectionId) ?? this.#keys[0]!;
  }

  /** Takes connections for this deployment's without asking. */
  assume(connectionIds: readonly ConnectionId[]): void {
    for (const id of connectionIds) {
      if (this.#keyOf.has(id)) continue;
      this.#keyOf.set(id, this.#keys[0]!);
      this.#assumed.add(id);
    }
  }

  /** Takes what the database knows, so far as it is this deployment's, and forgets what it knows no more: another
   * worker has marked it removed, or renamed it. */
  follow(known: readonly ConnectionId[]): void {
    const set = new Set(known);
    for (const id of this.connections) if (!set.has(id)) this.forget(id);
    this.assume(known.filter((id) => this.#given === undefined || this.#given.includes(id)));
  }

  /** Replicates a connection no longer. */
  forget(connectionId: ConnectionId): void {
    if (this.#given?.includes(connectionId)) return;
    this.#keyOf.delete(connectionId);
    this.#assumed.delete(connectionId);
  }

  /**
   * Asks every key what it lists (`/v1/me`). Only adds; what is missing is the caller's to judge. A key that lists
   * none while nothing else is known is one connection without a name; an empty list changes nothing once
   * connections are known (R21). Listed ids that cannot be used are an error: they are no reason to assume the
   * connection without a name, nor can it be told then that others are missing.
   * @param me asks one key; what it throws is among the errors.
   */
  async look(me: (key: ApiKey) => Promise<object>, signal: AbortSignal): Promise<Looked> {
    if (this.#given !== undefined && this.#keys.length === 1) {
      return { listed: this.#given, missing: [], errors: [], nameless: 0 };
    }
    const errors: unknown[] = [];
    let silent: ApiKey | undefined;
    const listed = new Map<ConnectionId, ApiKey>();
    let empty = 0;
    for (const key of this.#keys) {
      try {
        const refused = new Set<string>();
        const ids = connectionsIn(await me(key), refused) ?? [];
        for (const id of ids) if (!listed.has(id)) listed.set(id, key);
        if (refused.size > 0) errors.push(cannotBeUsed(refused.size));
        else if (ids.length === 0) empty++;
      } catch (error) {
        if (signal.aborted) throw error;
        errors.push(error);
        silent ??= key;
      }
    }
    const nothingKnown = this.#keyOf.size === 0 && listed.size === 0 && errors.length === 0;
    if (nothingKnown && this.#given === undefined) listed.set(UNNAMED_CONNECTION, this.#keys[0]!);
    const complete = errors.length === 0 && empty === 0;
    for (const [id, key] of listed) {
      this.#assumed.delete(id);
      if (this.#given === undefined || this.#given.includes(id)) this.#keyOf.set(id, key);
    }
    // What the others do not list is likely to be of the key that does not answer.
    if (silent !== undefined) for (const id of this.#assumed) this.#keyOf.set(id, silent);
    // Given ids that no key lists may be right all the same: the list's shape is not documented.
    if (this.#given !== undefined) this.assume(this.#given);
    const wanted = this.connections;
    return {
      listed: wanted.filter((id) => listed.has(id)),
      missing: complete && this.#given === undefined ? wanted.filter((id) => !listed.has(id)) : [],
      errors,
      nameless: nothingKnown ? Math.max(0, empty - 1) : 0,
    };
  }
}

function cannotBeUsed(ids: number): ReplicaError {
  return new ReplicaError('protocol', {
    where: `${ids} of the listed connection ids cannot be used (GET /v1/me)`,
    hint: 'an id is printable ASCII of at most 1,024 bytes; ask the vendor for other ids',
  });
}
