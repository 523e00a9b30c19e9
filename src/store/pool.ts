import pg from 'pg';
import { POOL_BUSY } from '../errors/codes.ts';
import { coded, PgClient } from './client.ts';

type Callback = (error: Error | undefined, client: pg.PoolClient | undefined, done: () => void) => void;

/** pg's pool of {@link PgClient}s, whose failures have a code too: pg tells by text alone that none came free in time. */
export class PgPool extends pg.Pool {
  readonly #clients = new Set<pg.PoolClient>();

  constructor(config: pg.PoolConfig) {
    // Statements go out when they are asked for (`session.ts` says which before the ones before them are answered).
    super({ ...config, Client: PgClient, pipeline: true });
    this.on('connect', (client) => this.#clients.add(client));
    this.on('remove', (client) => this.#clients.delete(client));
  }

  /** Those that are connected. */
  get clients(): ReadonlySet<pg.PoolClient> {
    return this.#clients;
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.PoolClient> | undefined {
    if (callback !== undefined) {
      super.connect(callback);
      return undefined;
    }
    return super.connect().catch((error: unknown) => {
      // A pool that was closed is a fault of ours.
      throw this.ending ? error : coded(error, POOL_BUSY);
    });
  }
}
