import type { ErasureKey } from '../lib/erasure-key.ts';
import { identifier } from '../lib/identifiers.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from '../store/database.ts';
import { findMarks, type Mark } from '../store/suppressions.ts';

/** What the ledger of suppressions says of names in records: hashed, and asked for once each. */
export class Marks {
  readonly #db: Db;
  readonly #connectionId: ConnectionId;
  readonly #key: ErasureKey;
  /** By name in its one form; null where there is none. */
  readonly #known = new Map<string, Mark | null>();

  constructor(db: Db, connectionId: ConnectionId, key: ErasureKey) {
    this.#db = db;
    this.#connectionId = connectionId;
    this.#key = key;
  }

  /** Looks up what was not asked for yet, in one statement; in none where that is nothing. */
  async ask(names: Iterable<string>): Promise<void> {
    const asked = new Map<string, Buffer>();
    for (const name of names) {
      const one = identifier(name);
      if (!this.#known.has(one) && !asked.has(one)) asked.set(one, this.#key.hash(one));
    }
    const found = await findMarks(this.#db, this.#connectionId, [...asked.values()]);
    for (const [name, hash] of asked) this.#known.set(name, found.get(hash.toString('hex')) ?? null);
  }

  /** The mark of somebody, by an identifier in its one form that was asked for. */
  of(name: string): Mark | undefined {
    const mark = this.#known.get(name);
    return mark == null || mark.isRecord ? undefined : mark;
  }

  /** The same of several names. */
  ofAll(names: readonly string[]): Mark[] {
    return names.flatMap((name) => this.of(name) ?? []);
  }

  /** Knows a name from now on as what the ledger is told of it. */
  set(name: string, mark: Mark): void {
    this.#known.set(identifier(name), mark);
  }

  /** Whether what was asked for names a record that was there at an erasure. */
  isRecord(name: string): boolean {
    return this.#known.get(identifier(name))?.isRecord === true;
  }

  /** Whether it was asked for, and the ledger has nothing of it. */
  isUnknown(name: string): boolean {
    return this.#known.get(identifier(name)) === null;
  }

  hash(name: string): Buffer {
    return this.#key.hash(name);
  }
}
