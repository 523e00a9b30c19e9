/** A Postgres that fails, a proxy before it, and an upstream: a database in it for each test. */
import type { Kysely } from 'kysely';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { Database } from '../../src/store/schema.ts';
import { openTestDatabase } from '../support/database.ts';
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts';
import { differencesFromTruth } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const MAX_CONNECTIONS = 30;

export class FailingPostgres {
  postgres!: OwnPostgres;
  proxy!: TcpProxy;
  simulator!: Simulator;
  /** Of the test's database. */
  name!: string;
  #db!: Kysely<Database>;
  #databases = 0;
  readonly #clients: pg.Client[] = [];

  /** The database's, past the proxy. */
  get url(): string {
    return this.#urlOf(this.name);
  }

  /** The database's, through the proxy. */
  get proxied(): string {
    return this.#urlOf(this.name, this.proxy.port);
  }

  #urlOf(database: string, port = this.postgres.port): string {
    return Object.assign(new URL(this.postgres.url), { pathname: `/${database}`, port: String(port) }).href;
  }

  /** Opens a connection past the proxy, until the end of the test or {@link hangUp}. */
  async connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.url });
    client.on('error', () => {});
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  /** Ends what {@link connect} opened. */
  async hangUp(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.end()));
  }

  /** One statement on a connection of its own, past the proxy. */
  query<T extends pg.QueryResultRow>(sql: string): Promise<T[]> {
    return this.#query(sql, this.name);
  }

  /** A statement from outside the database at hand. */
  admin<T extends pg.QueryResultRow>(sql: string): Promise<T[]> {
    return this.#query(sql, 'wa_replica');
  }

  async #query<T extends pg.QueryResultRow>(sql: string, database: string): Promise<T[]> {
    const client = new pg.Client({ connectionString: this.#urlOf(database) });
    await client.connect();
    return await client
      .query<T>(sql)
      .then(({ rows }) => rows)
      .finally(() => client.end());
  }

  /** Waits until the tables hold what the upstream does. */
  async agreed(what: string): Promise<void> {
    const agrees = async () => (await differencesFromTruth(this.#db, this.simulator)).length === 0;
    await waitFor(agrees, { what });
  }

  /** For the file that calls this; its own hooks come after, and end before. */
  static use(): FailingPostgres {
    const scene = new FailingPostgres();
    beforeAll(async () => {
      scene.postgres = await startOwnPostgres({ max_connections: String(MAX_CONNECTIONS) });
    });
    afterAll(() => scene.postgres.destroy());
    beforeEach(async () => {
      scene.name = `failures_${++scene.#databases}`;
      await scene.admin(`create database ${scene.name}`);
      scene.proxy = await startTcpProxy({ host: '127.0.0.1', port: scene.postgres.port });
      scene.simulator = await startSimulator({ messages: 200, connections: 1 });
      scene.#db = openTestDatabase(scene.url);
    });
    afterEach(async () => {
      await scene.hangUp();
      await scene.#db.destroy();
      await scene.proxy.close();
      await scene.simulator.close();
    });
    return scene;
  }
}
