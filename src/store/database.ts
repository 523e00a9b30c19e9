import type { EventEmitter } from 'node:events';
import {
  IdentifierNode,
  Kysely,
  type KyselyPlugin,
  OperationNodeTransformer,
  type PluginTransformQueryArgs,
  PostgresAdapter,
  PostgresDialect,
  type QueryId,
  type RootOperationNode,
  type SchemableIdentifierNode,
  type Transaction,
} from 'kysely';
import type pg from 'pg';
import { CONNECTION_LOST } from '../errors/codes.ts';
import { cut } from './cancel-request.ts';
import { PgPool } from './pool.ts';
import { type Database, TABLES } from './schema.ts';
import { sessionsOf } from './session.ts';
import { cutWhenSilent } from './silence.ts';

/** What the functions of the store take: the pool, or the transaction that the caller has open. */
export type Db = Kysely<Database> | Transaction<Database>;

export interface DatabaseOptions {
  /** A libpq URL; where absent, libpq's `PG*` variables are used. */
  readonly url?: string | undefined;
  readonly schema: string;
  readonly poolSize: number;
  readonly applicationName: string;
  /** Told of connections that are lost while no statement runs on them. */
  readonly onIdleError: (error: unknown) => void;
  /**
   * A connection on which nothing comes or goes for so many milliseconds is cut. Above statement_timeout, so that it
   * meets only what Postgres cannot end itself: a network that swallows everything. Undefined: never, for statements
   * that may take long; nor are these ended by a statement_timeout or transaction_timeout that the role has.
   */
  readonly silenceTimeout?: number;
}

/** How long a new connection to Postgres may take, at most, in milliseconds. */
const CONNECT_TIMEOUT = 10_000;

/**
 * Opens the pool. Nothing is sent before the first query.
 * What is right depends on no state of a session (no `set`, no session lock), so that a pooler in transaction mode may
 * stand between (R15); for the same reason tables are named with their schema and no search_path is set. What is only
 * quicker for it is in `session.ts`.
 */
export function openDatabase(options: DatabaseOptions): Kysely<Database> {
  const pool = new PgPool({
    ...(options.url === undefined ? {} : { connectionString: options.url }),
    max: options.poolSize,
    connectionTimeoutMillis: Math.min(CONNECT_TIMEOUT, options.silenceTimeout ?? CONNECT_TIMEOUT),
    idleTimeoutMillis: 30_000,
    keepAlive: true,
    application_name: options.applicationName,
  });
  pool.on('error', options.onIdleError);
  // The pool listens on idle connections only; one that is lost between two statements of a transaction would end
  // the process. Its next statement fails, and that is told.
  pool.on('connect', (client) => {
    client.on('error', options.onIdleError);
    if (options.silenceTimeout !== undefined) cutWhenSilent(client, options.silenceTimeout);
  });
  dropReadOnly(pool);
  const db = new Kysely<Database>({
    dialect: new PooledDialect({ pool: sessionsOf(pool, options.silenceTimeout === undefined) }),
    plugins: [new SchemaPlugin(options.schema)],
  });
  pools.set(db, pool);
  return db;
}

/** For whom Kysely takes no lock of the session's; `migrate` has one of the transaction's. */
class PooledDialect extends PostgresDialect {
  override createAdapter(): PostgresAdapter {
    return Object.assign(new PostgresAdapter(), {
      acquireMigrationLock: async () => {},
      releaseMigrationLock: async () => {},
    });
  }
}

const pools = new WeakMap<Kysely<Database>, PgPool>();

/**
 * Cuts all connections of a pool, for a process that is about to end: transactions are rolled back, and Postgres gives up
 * what it does for them, but for the building of an index. A statement that is just being committed may be.
 * @returns when Postgres has been told, or cannot be.
 */
export async function cutOff(db: Kysely<Database>): Promise<void> {
  const why = Object.assign(new Error('cut off'), { code: CONNECTION_LOST });
  await Promise.all([...(pools.get(db)?.clients ?? [])].map((client) => cut(client, why)));
}

/** How many connections of a pool work, how many rest, and how much work waits for one. */
export interface PoolUse {
  readonly busy: number;
  readonly idle: number;
  readonly waiting: number;
}

/** How a database that {@link openDatabase} opened is used now. */
export function poolUse(db: Kysely<Database>): PoolUse {
  const { totalCount = 0, idleCount = 0, waitingCount = 0 } = pools.get(db) ?? {};
  return { busy: totalCount - idleCount, idle: idleCount, waiting: waitingCount };
}

/** SQLSTATE of a write to a server that only reads. */
const READ_ONLY = '25006';

/**
 * After a failover a session may be with a server that only reads now, and stay there for as long as it is used. Once
 * it says so it is ended when it is given back, and the next one begins with whoever is the writer then.
 */
function dropReadOnly(pool: pg.Pool): void {
  const astray = new WeakSet<pg.PoolClient>();
  pool.on('connect', (client) => {
    const { connection } = client as unknown as { connection: EventEmitter };
    connection.on('errorMessage', ({ code }: { code?: string }) => {
      if (code === READ_ONLY) astray.add(client);
    });
  });
  pool.on('release', (_, client) => {
    if (astray.has(client)) (client as pg.PoolClient & pg.Client).end().catch(() => {});
  });
}

/**
 * Puts the schema before every table of ours, in built queries and in `sql` alike. Kysely's own `withSchema`
 * leaves `sql.table()` in raw statements alone.
 */
class SchemaPlugin implements KyselyPlugin {
  readonly #transformer: SchemaTransformer;

  constructor(schema: string) {
    this.#transformer = new SchemaTransformer(schema);
  }

  transformQuery(args: PluginTransformQueryArgs): RootOperationNode {
    return this.#transformer.transformNode(args.node, args.queryId);
  }

  async transformResult<R>(args: { result: R }): Promise<R> {
    return args.result;
  }
}

class SchemaTransformer extends OperationNodeTransformer {
  readonly #schema: string;

  constructor(schema: string) {
    super();
    this.#schema = schema;
  }

  protected override transformSchemableIdentifier(
    node: SchemableIdentifierNode,
    queryId?: QueryId,
  ): SchemableIdentifierNode {
    const transformed = super.transformSchemableIdentifier(node, queryId);
    if (transformed.schema !== undefined || !TABLES.has(node.identifier.name)) return transformed;
    return { ...transformed, schema: IdentifierNode.create(this.#schema) };
  }
}
