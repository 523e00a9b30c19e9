/** The state of a simulated upstream: its clock, its API keys, and the connections that they reach. */
import { AccessKey, type KeyOptions } from './access.ts';
import { Connection } from './connection.ts';
import { hex8, mix, Random } from './random.ts';
import { applyChange } from './traffic.ts';
import { type TruthOptions, type TruthRecord, truth } from './truth.ts';

/** One more than the first integer that a JavaScript number cannot hold: numbering begins beyond it. */
export const BEYOND_DOUBLE = 9_007_199_254_740_993n;

export class World {
  readonly seed: number;
  readonly connections = new Map<string, Connection>();
  readonly keys = new Map<string, AccessKey>();
  readonly #clock: () => number;
  #random: Random;
  #ahead = 0;

  /** @param now the clock, milliseconds since the epoch. */
  constructor(seed: number, now: () => number = Date.now) {
    this.seed = seed;
    this.#clock = now;
    this.#random = new Random(mix(seed, 3));
  }

  /** The world's time: its clock, and how far `advance` has moved it. Milliseconds since the epoch. */
  now(): number {
    return this.#clock() + this.#ahead;
  }

  /** Moves the world's time by this many milliseconds; messages may leave the 30-day window by it. */
  advance(ms: number): void {
    this.#ahead += ms;
  }

  /** @param startSeq the seq of the first change; by default beyond 2^53, and another for each connection. */
  addConnection(id?: string, startSeq?: bigint): Connection {
    const name =
      id ?? `conn_${hex8(mix(this.seed, 500 + this.connections.size))}${hex8(this.connections.size)}`;
    if (this.connections.has(name)) throw new Error(`the world has a connection ${name} already`);
    const start = startSeq ?? BEYOND_DOUBLE + BigInt(mix(this.seed, 900 + this.connections.size) % 1_000_000);
    const connection = new Connection(name, this.seed, start, () => this.now());
    this.connections.set(name, connection);
    return connection;
  }

  /** The connection with this id; throws where there is none. */
  connection(id: string): Connection {
    const found = this.connections.get(id);
    if (!found) throw new Error(`the world has no connection ${id}`);
    return found;
  }

  /** An API key; by default it reaches every connection of the world, later ones too. */
  addKey(options: KeyOptions): AccessKey {
    const key = new AccessKey(this, options);
    this.keys.set(options.key, key);
    return key;
  }

  removeKey(key: string): void {
    this.keys.delete(key);
  }

  /** Makes exactly `count` changes (each takes one seq), at one connection or spread over all. Repeatable by seed. */
  applyChanges(count: number, connectionId?: string): void {
    const all = connectionId === undefined ? [...this.connections.values()] : [this.connection(connectionId)];
    if (all.length === 0) return;
    for (let done = 0; done < count; ) {
      const connection = all.length === 1 ? all[0]! : this.#random.pick(all);
      done += applyChange(connection, this.now(), count - done);
    }
  }

  /** Begins another course of changes from here on. */
  reseed(seed: number): void {
    this.#random = new Random(mix(seed, 3));
    for (const connection of this.connections.values())
      connection.random = new Random(mix(seed, connection.salt));
  }

  /** Every record of a connection in its final state; see `truth.ts`. */
  truth(connectionId: string, options?: TruthOptions): Iterable<TruthRecord> {
    return truth(this.connection(connectionId), options);
  }
}
