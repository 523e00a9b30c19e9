import type { Socket } from 'node:net';
import {
  IdentifierNode,
  Kysely,
  type KyselyPlugin,
  OperationNodeTransformer,
  type PluginTransformQueryArgs,
  PostgresDialect,
  type QueryId,
  type RootOperationNode,
  type SchemableIdentifierNode,
  type Transaction,
} from 'kysely';
import pg from 'pg';
import { type Database, TABLES } from './schema.ts';

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
   * that may take long.
   */
  readonly silenceTimeout?: number;
}

/** How long a new connection to Postgres may take, in milliseconds. */
const CONNECT_TIMEOUT = 10_000;

/**
 * Opens the pool. Nothing is sent before the first query.
 * A session holds no state (no `set`, no prepared statement with a name, no session lock), so that a pooler
 * in transaction mode may stand between (R15); for the same reason tables are named with their schema and no
 * search_path is set.
 */
export function openDatabase(options: DatabaseOptions): Kysely<Database> {
  const pool = new pg.Pool({
    ...(options.url === undefined ? {} : { connectionString: options.url }),
    max: options.poolSize,
    connectionTimeoutMillis: CONNECT_TIMEOUT,
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
  return new Kysely<Database>({
    dialect: new PostgresDialect({ pool }),
    plugins: [new SchemaPlugin(options.schema)],
  });
}

/** pg's own query_timeout fails the query, and gives the dead connection back to the pool. */
function cutWhenSilent(client: pg.PoolClient, ms: number): void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  stream.setTimeout(ms, () => stream.destroy(new SilenceError('nothing came from Postgres')));
}

/** A connection that was cut because nothing came. */
class SilenceError extends Error {
  override name = 'SilenceError';
  readonly code = 'ETIMEDOUT';
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
