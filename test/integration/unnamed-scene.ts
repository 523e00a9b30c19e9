/** A key that lists no connection, so that its account is replicated as `default`; then it lists ids. */
import { afterEach, beforeEach } from 'vitest';
import { compareWithTruth } from '../../src/demo/compare.ts';
import type { AccessKey } from '../../src/simulator/access.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { TABLES } from '../../src/store/schema.ts';
import { useFreshDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker, type TestWorkerOptions } from '../support/worker.ts';

export class UnnamedScene {
  readonly database = useFreshDatabase({ migrated: true });
  simulator!: Simulator;
  key!: AccessKey;
  readonly #workers = new Set<TestWorker>();

  /** A new one for each test of the file. */
  constructor() {
    beforeEach(async () => {
      this.simulator = await startSimulator({ connections: ['conn_a'], messages: 200, meShape: 'none' });
      this.key = this.simulator.world.keys.get(DEFAULT_API_KEY)!;
    });
    afterEach(async () => {
      await Promise.all([...this.#workers].map(this.stop));
      await this.simulator.close();
    });
  }

  readonly start = async (
    env: Record<string, string> = {},
    options: TestWorkerOptions = {},
  ): Promise<TestWorker> => {
    const settings = { ...quickSettings(this.database.url, this.simulator.url), ...env };
    const worker = await startWorker(settings, { discovers: false, ...options });
    this.#workers.add(worker);
    return worker;
  };

  readonly stop = async (worker: TestWorker): Promise<void> => {
    this.#workers.delete(worker);
    await worker.stop();
  };

  readonly replicatedAs = (name: string, id: string) =>
    waitFor(
      async () =>
        (await compareWithTruth(this.database.db, name, this.simulator.world.truth(id))).differences
          .length === 0,
      { what: `${name} to equal the truth of ${id}` },
    );

  /** In which tables the connection has rows, and how many. */
  readonly rowsOf = async (connectionId: string): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (const table of TABLES) {
      if (['workers', 'change_consumers', 'crm_links', 'kysely_migration'].includes(table)) continue;
      const rows = await this.database.query<{ n: string }>(
        `select count(*) as n from whatsapp.${table} where connection_id = $1`,
        [connectionId],
      );
      if (rows[0]!.n !== '0') counts[table] = Number(rows[0]!.n);
    }
    return counts;
  };

  /** The rows that a rename takes along; pages and polls go on meanwhile. */
  readonly contentOf = async (connectionId: string): Promise<Record<string, number>> => {
    const { sync_pages: _, ...content } = await this.rowsOf(connectionId);
    return content;
  };
}
