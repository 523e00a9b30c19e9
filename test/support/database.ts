import { randomBytes } from 'node:crypto';
import type { Kysely } from 'kysely';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, inject } from 'vitest';
import { openDatabase } from '../../src/store/database.ts';
import type { Database } from '../../src/store/schema.ts';
import { waitFor } from './wait.ts';

/** A database of a test file's, or of a test's, own. */
export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** A statement on one of a few connections that wait for the next: nothing may be left behind in a session. */
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  /** It as the daemon has it; opened at its first use, closed by `drop`. */
  readonly db: Kysely<Database>;
  /** Drops it; fails, after having dropped it, when somebody is still connected. */
  drop(deadlineMs?: number): Promise<void>;
}

export interface TestDatabaseOptions {
  /** With the project's schema in it; otherwise empty. */
  readonly migrated?: boolean;
  /** Of its text; the server's where absent. */
  readonly encoding?: string;
}

/** The schema that migrated test databases have. */
export const SCHEMA = 'whatsapp';

/** What our own connections are called. */
const APPLICATION = 'wa-replica test support';

/** Makes a fresh database on the tests' server. */
export async function createTestDatabase({
  migrated = false,
  encoding,
}: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const name = `wa_test_${inject('runId')}_${randomBytes(5).toString('hex')}`;
  const template = migrated ? await migratedTemplate() : 'template0';
  await onServer(async (server) => {
    const as = encoding === undefined ? '' : await inEncoding(server, encoding);
    await server.query(`create database ${name} template ${template} ${await strategy(server)} ${as}`);
  });
  const url = urlOf(name);
  const pool = poolOf(url);
  let db: Kysely<Database> | undefined;
  return {
    url,
    name,
    get db() {
      db ??= openTestDatabase(url);
      return db;
    },
    query: async (sql, values) => (await pool.query(sql, values)).rows,
    async drop(deadlineMs) {
      try {
        await db?.destroy();
        await pool.end();
        await expectNoConnections(name, deadlineMs);
      } finally {
        await onServer((server) => server.query(`drop database if exists ${name} with (force)`));
      }
    },
  };
}

/** A database for the file or `describe` that calls this: made before its tests, dropped after them. */
export function useTestDatabase(options: TestDatabaseOptions = {}): TestDatabase {
  return used(options, beforeAll, afterAll);
}

/** A database for each test of the file or `describe` that calls this; its own hooks come after, and end before. */
export function useFreshDatabase(options: TestDatabaseOptions = {}): TestDatabase {
  return used(options, beforeEach, afterEach);
}

function used(
  options: TestDatabaseOptions,
  before: typeof beforeAll | typeof beforeEach,
  after: typeof afterAll | typeof afterEach,
): TestDatabase {
  let database: TestDatabase | undefined;
  const made = () => {
    if (!database) throw new Error('the test database is there only while tests run');
    return database;
  };
  before(async () => {
    database = await createTestDatabase(options);
  });
  after(async () => {
    await database?.drop();
    database = undefined;
  });
  return {
    get url() {
      return made().url;
    },
    get name() {
      return made().name;
    },
    get db() {
      return made().db;
    },
    query: (sql, values) => made().query(sql, values),
    drop: (deadlineMs) => made().drop(deadlineMs),
  };
}

/** Opens a test's database as the daemon does. */
export function openTestDatabase(url: string): Kysely<Database> {
  return openDatabase({
    url,
    schema: SCHEMA,
    poolSize: 4,
    applicationName: 'wa-replica test',
    onIdleError: () => {},
  });
}

/** Fails unless every connection to the database ends soon: what a test opened, it must close. */
export async function expectNoConnections(name: string, deadlineMs = 20_000): Promise<void> {
  let open: { pid: number; application_name: string; state: string; query: string }[] = [];
  const gone = async () => {
    // A closed connection's backend takes a moment to go.
    open = await onServer(async (server) => {
      const { rows } = await server.query<(typeof open)[number]>(
        `select pid, application_name, state, left(query, 200) as query from pg_stat_activity
          where datname = $1 and application_name <> $2 and backend_type = 'client backend'`,
        [name, APPLICATION],
      );
      return rows;
    });
    return open.length === 0;
  };
  await waitFor(gone, { what: `the connections to ${name} to be closed`, deadlineMs }).catch(
    (error: unknown) => {
      throw new Error(`leaked connections to ${name}: ${JSON.stringify(open)}`, { cause: error });
    },
  );
}

/**
 * Copying its files takes half of the CPU of copying it through the log. It needs checkpoints, which are cheap only
 * where nothing is flushed; before Postgres 15 there is no other way.
 */
async function strategy(server: pg.ClientBase): Promise<string> {
  const { rows } = await server.query<{ cheap: boolean }>(
    `select current_setting('server_version_num')::integer >= 150000 and current_setting('fsync') = 'off' as cheap`,
  );
  return rows[0]!.cheap ? 'strategy file_copy' : '';
}

/** What makes a database of an encoding: a locale that goes with all of them, and who provides that. */
async function inEncoding(server: pg.ClientBase, encoding: string): Promise<string> {
  const { rows } = await server.query<{ version: number }>(
    `select current_setting('server_version_num')::integer as version`,
  );
  const provider = rows[0]!.version >= 150_000 ? 'locale_provider libc' : '';
  return `encoding '${encoding}' lc_collate 'C' lc_ctype 'C' ${provider}`;
}

let template: Promise<string> | undefined;

/** The name of this run's template, made by the first who asks, in whichever worker. */
function migratedTemplate(): Promise<string> {
  template ??= makeTemplate();
  return template;
}

async function makeTemplate(): Promise<string> {
  const name = `wa_test_${inject('runId')}_template`;
  // The lock is held by this connection, so let go of even when the migration throws.
  await withClient(inject('serverUrl'), async (server) => {
    await server.query('select pg_advisory_lock(hashtext($1))', [name]);
    const { rows } = await server.query<{ datistemplate: boolean }>(
      'select datistemplate from pg_database where datname = $1',
      [name],
    );
    if (rows[0]?.datistemplate) return;
    await server.query(`drop database if exists ${name} with (force)`);
    await server.query(`create database ${name} template template0`);
    const { migrateToLatest } = await import('../../src/store/migrator.ts');
    await migrateToLatest(urlOf(name), SCHEMA);
    await expectNoConnections(name);
    // Being a template says that it is finished; without connections nothing can hinder copying it.
    await server.query(`alter database ${name} is_template true allow_connections false`);
  });
  return name;
}

/** A condition that is polled costs Postgres a process each time, where each statement has its own connection. */
function poolOf(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: APPLICATION,
    max: 3,
    allowExitOnIdle: true,
  });
  // A test may end the connections of everybody, or the server: the next statement has another.
  pool.on('error', () => {});
  return pool;
}

function urlOf(name: string): string {
  const url = new URL(inject('serverUrl'));
  url.pathname = `/${name}`;
  return url.href;
}

let server: pg.Pool | undefined;

/** Making and dropping databases is half connecting, where each statement has its own connection. */
async function onServer<T>(use: (client: pg.ClientBase) => Promise<T>): Promise<T> {
  server ??= poolOf(inject('serverUrl'));
  const client = await server.connect();
  try {
    return await use(client);
  } finally {
    client.release();
  }
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: APPLICATION });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
