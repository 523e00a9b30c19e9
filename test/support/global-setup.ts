import { randomBytes, randomInt } from 'node:crypto';
import { rm } from 'node:fs/promises';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { destroyEmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/server.ts';
import { startDockerPostgres } from './docker-postgres.ts';
import { abandonedFolders, scratchFolder } from './scratch.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A database of the tests' server from which others can be made; not for tables of one's own. */
    serverUrl: string;
    /** In the name of every database of this run. */
    runId: string;
    /** For everything random: TEST_SEED, or drawn at the start and printed. */
    seed: number;
  }
}

/** For speed: what these servers hold may be lost with the machine. */
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '200',
  max_wal_size: '256MB',
  logging_collector: 'off',
};

interface Server {
  readonly url: string;
  /** Which it is and why, for the one line that is printed. */
  readonly which: string;
  stop(): Promise<void>;
}

/** Gives all test files one server and one seed, and takes the server away at the end. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const seed = seedOf(process.env.TEST_SEED);
  const runId = randomBytes(4).toString('hex');
  const server = await takeServer(runId);
  console.log(`tests use ${server.which}; TEST_SEED=${seed}`);
  project.provide('serverUrl', server.url);
  project.provide('runId', runId);
  project.provide('seed', seed);
  return () => server.stop();
}

function seedOf(given: string | undefined): number {
  if (!given) return randomInt(2 ** 31);
  const seed = Number(given);
  if (Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31) return seed;
  throw new Error(`TEST_SEED must be an integer from 0 to 2147483647, not ${given}`);
}

async function takeServer(runId: string): Promise<Server> {
  const given = process.env.TEST_DATABASE_URL;
  if (given) {
    const version = await versionOf(given).catch((cause: unknown) => {
      throw new Error('the server of TEST_DATABASE_URL cannot be used', { cause });
    });
    const which = `the server of TEST_DATABASE_URL (PostgreSQL ${version})`;
    return { url: given, which, stop: () => dropDatabasesOf(given, runId) };
  }
  const docker = await startDockerPostgres(SETTINGS);
  if (!('reason' in docker)) {
    const version = await versionOf(docker.url);
    return { ...docker, which: `a container (PostgreSQL ${version}): TEST_DATABASE_URL is not set` };
  }
  await sweep();
  const server = await startEmbeddedPostgres({ dir: scratchFolder(), settings: SETTINGS });
  return {
    url: server.url,
    which: `the embedded PostgreSQL ${await versionOf(server.url)}: TEST_DATABASE_URL is not set, ${docker.reason}`,
    stop: () => server.destroy(),
  };
}

/** Clears away what runs left behind that were killed. */
async function sweep(): Promise<void> {
  for (const folder of await abandonedFolders()) {
    await destroyEmbeddedPostgres(folder);
    await rm(folder, { recursive: true, force: true });
  }
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

function versionOf(url: string): Promise<string> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ version: string }>(
      `select current_setting('server_version') as version`,
    );
    return rows[0]?.version ?? '?';
  });
}

/** Somebody's own server is left as it was found. */
function dropDatabasesOf(url: string, runId: string): Promise<void> {
  return withClient(url, async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [`wa_test_${runId}_`],
    );
    for (const { datname } of rows) {
      await client.query(`alter database ${datname} is_template false`);
      await client.query(`drop database ${datname} with (force)`);
    }
  });
}
