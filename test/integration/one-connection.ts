/** One simulated connection, a database of its own, and a worker between them: for the tests of R6 and R12. */
import type { Kysely } from 'kysely';
import { afterEach, beforeEach } from 'vitest';
import type { Connection } from '../../src/simulator/connection.ts';
import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

export const ID = 'conn_a';

/** A request that the upstream answered; of the sync endpoint as `cursor limit`, of others the route's name. */
export interface Asked {
  readonly what: string;
  readonly status: number;
  /** A reading of the monotonic clock. */
  readonly at: number;
}

export class OneConnection {
  database!: TestDatabase;
  simulator!: Simulator;
  connection!: Connection;
  #worker: TestWorker | undefined;
  /** In the order in which they were answered. */
  asked: Asked[] = [];

  get db(): Kysely<Database> {
    return this.database.db;
  }

  get worker(): TestWorker {
    if (this.#worker === undefined) throw new Error('no worker runs');
    return this.#worker;
  }

  async upstream(options: Partial<SimulatorOptions> = {}): Promise<void> {
    this.simulator = await startSimulator({ messages: 300, connections: [ID], ...options });
    this.connection = this.simulator.world.connection(ID);
    this.asked = [];
    this.simulator.stats.onRequest = ({ route, query, status }) => {
      const { cursor, limit } = Object.fromEntries(new URLSearchParams(query));
      const what = route === 'sync' ? `${cursor} ${limit}` : route;
      this.asked.push({ what, status, at: performance.now() });
    };
  }

  /** What was asked for since a mark, which is the length of `asked` then. */
  since(mark: number): string[] {
    return this.asked.slice(mark).map(({ what }) => what);
  }

  async replicate(more: Record<string, string> = {}): Promise<void> {
    const settings = quickSettings(this.database.url, this.simulator.url);
    const env = { ...settings, WHATSAPP_USE_CONNECTION_IDS: ID, ...more };
    this.#worker = await startWorker(env, { discovers: false });
  }

  async stop(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.stop();
  }

  async state(id = ID) {
    return (
      await this.database.query('select * from whatsapp.sync_state where connection_id = $1', [id])
    )[0]!;
  }

  agrees = async () => (await differencesFromTruth(this.db, this.simulator)).length === 0;

  /** Kinds and codes of the failures that were told. */
  failures(): string[] {
    return this.worker.events.flatMap((event) =>
      event.type === 'failed' ? [`${event.error.kind} ${event.error.code}`] : [],
    );
  }

  async count(from: string): Promise<number> {
    return Number((await this.database.query<{ n: string }>(`select count(*) as n from ${from}`))[0]!.n);
  }

  /** Every message's version, cursor, epoch and the length of the ledger: equal before and after where nothing was
   * written. */
  async books() {
    const { epoch, numbering, cursor } = await this.state();
    return {
      ...{ epoch, numbering, cursor, pages: await this.count('whatsapp.sync_pages') },
      rows: await this.database.query('select message_id, xmin, ctid from whatsapp.messages order by 1'),
    };
  }

  async #close(): Promise<void> {
    await this.stop();
    await this.simulator.close();
    await this.database.drop();
  }

  static use(): OneConnection {
    const scene = new OneConnection();
    beforeEach(async () => {
      scene.database = await createTestDatabase({ migrated: true });
    });
    afterEach(() => scene.#close());
    return scene;
  }
}
