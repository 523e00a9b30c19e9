import { randomBytes } from 'node:crypto';
import { lstatSync, readdirSync, statfsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { isAlive } from '../../src/embedded/postmaster.ts';
import { destroyEmbeddedPostgres, startEmbeddedPostgres } from '../../src/embedded/server.ts';
import { openDatabase } from '../../src/store/database.ts';
import { tendIndexes } from '../../src/store/indexes.ts';
import { migrateToLatest } from '../../src/store/migrator.ts';
import { cpuOfFamily } from './proc.ts';

/** The schema of the tables in every database here. */
export const SCHEMA = 'whatsapp';

/** On a disk by the conventions of Linux, where /tmp may be memory. */
const PARENT = '/var/tmp';
/** What statfs(2) calls a tmpfs. */
const TMPFS = 0x01021994;

/** A database of one run's own. */
export interface BenchDatabase {
  readonly url: string;
  readonly name: string;
  /** On a connection that stays open until the drop. */
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  drop(): Promise<void>;
}

/** A server with production's settings: nothing that a commit promises is turned off. */
export interface BenchPostgres {
  readonly pid: number;
  readonly version: string;
  /** Where the server, whose account may be another, can write files that we can read. */
  readonly folder: string;
  /** The settings that speed depends on, as the server has them. */
  readonly settings: Readonly<Record<string, string>>;
  /** Makes a database with the project's empty tables in it, after a checkpoint: every run begins alike. */
  createDatabase(): Promise<BenchDatabase>;
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  /** Seconds of CPU of the server with all its processes. */
  cpu(): number;
  destroy(): Promise<void>;
}

const TOLD = [
  'fsync',
  'synchronous_commit',
  'full_page_writes',
  'shared_buffers',
  'max_wal_size',
  'wal_compression',
  'autovacuum',
  'data_checksums',
  'jit',
];

/** @param dir where the data goes; made, and deleted at the end. */
export async function startBenchPostgres(
  dir: string | undefined,
  settings: Readonly<Record<string, string>>,
  note: (line: string) => void,
): Promise<BenchPostgres> {
  const parent = dir ?? PARENT;
  if (statfsSync(parent).type === TMPFS) {
    note(`${parent} is memory, where fsync costs nothing: give a folder on a disk with --dir`);
  }
  await sweep(parent);
  const folder = path.join(parent, `wa-replica-bench-${process.pid}-${randomBytes(3).toString('hex')}`);
  const server = await startEmbeddedPostgres({ dir: folder, settings });
  const admin = await connect(server.url);
  const template = 'bench_template';
  await admin.query(`create database ${template} template template0`);
  await makeTables(urlOf(server.url, template));
  const { rows } = await admin.query<{ name: string; value: string }>(
    'select name, current_setting(name) as value from unnest($1::text[]) as n (name)',
    [TOLD],
  );
  const [version] = (await admin.query<{ v: string }>(`select current_setting('server_version') as v`)).rows;
  let made = 0;
  return {
    pid: server.pid,
    version: version?.v ?? 'unknown',
    folder: server.dataDir,
    settings: Object.fromEntries(rows.map((row) => [row.name, row.value])),
    async createDatabase() {
      const name = `bench_${++made}`;
      await admin.query(`create database ${name} template ${template}`);
      await admin.query('checkpoint');
      const url = urlOf(server.url, name);
      const client = await connect(url);
      return {
        url,
        name,
        query: async (sql, values) => (await client.query(sql, values)).rows,
        async drop() {
          await client.end();
          await admin.query(`drop database ${name} with (force)`);
        },
      };
    },
    query: async (sql, values) => (await admin.query(sql, values)).rows,
    cpu: () => cpuOfFamily(server.pid),
    async destroy() {
      await admin.end().catch(() => {});
      await server.destroy();
    },
  };
}

/** As a daemon makes them, with the indexes that it builds beside its work: a baseline has to keep them up too. */
async function makeTables(url: string): Promise<void> {
  await migrateToLatest(url, SCHEMA);
  const onIdleError = (error: unknown) => {
    throw error;
  };
  const options = { url, schema: SCHEMA, poolSize: 2, applicationName: 'wa-replica bench', onIdleError };
  const db = openDatabase(options);
  try {
    await tendIndexes(db, SCHEMA, { search: 'on' });
  } finally {
    await db.destroy();
  }
}

/** Deletes the servers of runs that were killed before they could do so. */
async function sweep(parent: string): Promise<void> {
  for (const name of readdirSync(parent)) {
    const pid = /^wa-replica-bench-(\d+)-[0-9a-f]+$/.exec(name)?.[1];
    if (pid === undefined || (await isAlive(Number(pid)))) continue;
    const folder = path.join(parent, name);
    if (lstatSync(folder, { throwIfNoEntry: false })?.uid !== process.geteuid?.()) continue;
    await destroyEmbeddedPostgres(folder).catch(() => {});
    await rm(folder, { recursive: true, force: true });
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'wa-replica bench' });
  // A database that is dropped, or a server that is stopped, under it: the next query tells.
  client.on('error', () => {});
  await client.connect();
  return client;
}

function urlOf(server: string, database: string): string {
  return Object.assign(new URL(server), { pathname: `/${database}` }).href;
}
