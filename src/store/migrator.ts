import { promises as fs } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Kysely, sql, type Transaction } from 'kysely';
import { FileMigrationProvider, type Migration, type MigrationProvider, Migrator } from 'kysely/migration';
import { mayPass, ReplicaError } from '../errors/errors.ts';
import { openDatabase } from './database.ts';
import { tellOfHolders } from './lock-holders.ts';
import type { Database } from './schema.ts';
import { BESIDE, inTransaction, undoneWithoutUs } from './transaction.ts';

/** Where the migrations are, in the sources and in `dist` alike. */
const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

export interface MigrationState {
  readonly name: string;
  /** Undefined: pending. */
  readonly appliedAt: Date | undefined;
}

export interface SchemaVersion {
  /** The newest migration that the database has; undefined before the first. */
  readonly database: string | undefined;
  /** The newest migration that this program has. */
  readonly program: string;
  readonly pending: readonly string[];
  /** Migrations that the database has and this program does not know. */
  readonly unknown: readonly string[];
}

/** Of the advisory lock; Kysely's own, which earlier versions of this program took. */
const LOCK = sql.lit(3853314791062309107n);

/**
 * Brings the schema up to date, in one transaction, under an advisory lock that is the transaction's: of several that
 * start at once, one migrates and the others wait for it. Rejected: Kysely's lock, which is the session's. Behind a
 * pooler in transaction mode it is on another connection than the migration, and may stay there for ever.
 * Nothing is left of one whose process has ended.
 * @param onWaiting told what is waited for, once that has lasted for some seconds: who is at another migration, or has
 * locked what is to be changed.
 * @param reached called inside the transaction, after each migration.
 * @returns the names of the migrations that were run.
 * @throws ReplicaError `schema_newer` on a schema newer than the program; `migration_failed` when one fails; what
 * Postgres throws, where it went away or was not ready.
 */
export async function migrate(
  db: Kysely<Database>,
  schema: string,
  onWaiting: (what: string) => void = () => {},
  reached: () => void = () => {},
): Promise<string[]> {
  const before = await schemaVersion(db, schema);
  refuseNewer(before);
  if (before.pending.length === 0) return [];
  const done = new AbortController();
  try {
    let failed: string | undefined;
    try {
      return await inTransaction(db, BESIDE, async (trx) => {
        await undoneWithoutUs(trx);
        const { rows } = await sql`select pg_backend_pid() as pid`.execute(trx);
        const session = sql`array[${(rows[0] as { pid: number }).pid}::integer]`;
        void tellOfHolders(db, session, onWaiting, done.signal);
        await lock(trx);
        // Another program may have moved the schema on meanwhile.
        refuseNewer(await schemaVersion(trx, schema));
        await makeSchema(trx, schema);
        const { error, results = [] } = await migrator(trx, schema, reached).migrateToLatest();
        failed = results.find((result) => result.status === 'Error')?.migrationName ?? failed;
        if (error !== undefined) throw error;
        return results.map((result) => result.migrationName);
      });
    } catch (error) {
      // Nothing of it is left, and it is no fault of the migration's: the caller may try again.
      if (mayPass(error)) throw error;
      const where = failed === undefined ? `preparing the schema ${schema}` : `migration ${failed}`;
      throw ReplicaError.from('migration_failed', error, where);
    }
  } finally {
    done.abort();
  }
}

/**
 * Kysely goes on where it may not make it, or its tables in it, and what then fails tells nothing.
 * @throws ReplicaError `migration_failed` where the schema is there, and the role may make nothing in it.
 */
async function makeSchema(trx: Transaction<Database>, schema: string): Promise<void> {
  const { rows } = await sql<{ may: boolean; role: string }>`
    select has_schema_privilege(oid, 'create') as may, quote_ident(current_user) as role
    from pg_namespace where nspname = ${schema}`.execute(trx);
  // Asked for first: `if not exists` wants the privilege also where it exists.
  if (rows[0] === undefined) await sql`create schema ${sql.id(schema)}`.execute(trx);
  else if (!rows[0].may) {
    throw new ReplicaError('migration_failed', {
      where: `preparing the schema ${schema}`,
      code: '42501',
      hint:
        `${rows[0].role} may make nothing there: migrate as the owner of the tables; ` +
        `where there are none yet, GRANT CREATE ON SCHEMA ${schema} TO ${rows[0].role} does, too`,
    });
  }
}

/** Waits for the lock however long, whatever lock_timeout the role has for the migration itself. */
async function lock(trx: Transaction<Database>): Promise<void> {
  const { rows } = await sql<{ own: string }>`select current_setting('lock_timeout') as own`.execute(trx);
  await sql`set local lock_timeout = 0`.execute(trx);
  await sql`select pg_advisory_xact_lock(${LOCK})`.execute(trx);
  await sql`select set_config('lock_timeout', ${rows[0]!.own}, true)`.execute(trx);
}

/** Compares the database's schema with this program's. */
export async function schemaVersion(db: Kysely<Database>, schema: string): Promise<SchemaVersion> {
  const known = await knownMigrations(schema);
  const applied = await appliedMigrations(db, schema);
  return {
    database: applied.at(-1)?.name,
    program: known.at(-1)!,
    pending: known.filter((name) => !applied.some((one) => one.name === name)),
    unknown: applied.map((one) => one.name).filter((name) => !known.includes(name)),
  };
}

/** Every migration that this program knows, in order, and when it was applied. Reads only. */
export async function migrationState(db: Kysely<Database>, schema: string): Promise<MigrationState[]> {
  const applied = await appliedMigrations(db, schema);
  const known = await knownMigrations(schema);
  return known.map((name) => ({ name, appliedAt: applied.find((one) => one.name === name)?.at }));
}

/** @throws ReplicaError `schema_newer` or `schema_pending` unless the schema is exactly this program's. */
export async function requireCurrentSchema(db: Kysely<Database>, schema: string): Promise<void> {
  const version = await schemaVersion(db, schema);
  refuseNewer(version);
  if (version.pending.length > 0) {
    throw new ReplicaError('schema_pending', {
      where:
        version.database === undefined
          ? `nothing is in the schema ${schema} yet`
          : `the schema lacks ${version.pending.join(', ')}`,
      hint: 'run `wa-replica migrate`, or start `run` or `sync` with MIGRATE_ON_START=true, its default',
    });
  }
}

/** @throws ReplicaError `schema_newer` where the schema has migrations that this program does not know. */
export async function requireKnownSchema(db: Kysely<Database>, schema: string): Promise<void> {
  refuseNewer(await schemaVersion(db, schema));
}

function refuseNewer(version: SchemaVersion): void {
  if (version.unknown.length === 0) return;
  throw new ReplicaError('schema_newer', {
    where: `the schema has ${version.unknown.join(', ')}, this program ends at ${version.program}`,
    hint: 'run the version of wa-replica that made it, or a newer one',
  });
}

async function knownMigrations(schema: string): Promise<string[]> {
  return Object.keys(await provider(schema).getMigrations()).sort();
}

async function appliedMigrations(
  db: Kysely<Database>,
  schema: string,
): Promise<{ name: string; at: Date }[]> {
  const found = await sql<{ there: boolean }>`
    select to_regclass(format('%I.kysely_migration', ${schema}::text)) is not null as there`.execute(db);
  if (found.rows[0]?.there !== true) return [];
  const rows = await db
    .selectFrom('kysely_migration')
    .select(['name', 'timestamp'])
    .orderBy('name')
    .execute();
  return rows.map((row) => ({ name: row.name, at: new Date(row.timestamp) }));
}

function migrator(db: Transaction<Database>, schema: string, reached: () => void): Migrator {
  return new Migrator({ db, provider: provider(schema, reached), migrationTableSchema: schema });
}

/** The migrations name no schema; each runs with the replica's as its search path, for the transaction only. */
function provider(schema: string, reached: () => void = () => {}): MigrationProvider {
  const files = new FileMigrationProvider({ fs, path, migrationFolder: MIGRATIONS });
  return {
    async getMigrations() {
      const inSchema = (migration: Migration): Migration => ({
        async up(db) {
          await sql`set local search_path to ${sql.id(schema)}, pg_catalog`.execute(db);
          await migration.up(db);
          reached();
        },
      });
      return Object.fromEntries(
        Object.entries(await files.getMigrations()).map(([name, migration]) => [name, inSchema(migration)]),
      );
    },
  };
}

/** Opens a connection of its own and brings the schema up to date; for tests and benches. */
export async function migrateToLatest(url: string, schema: string): Promise<void> {
  const db = openDatabase({
    url,
    schema,
    poolSize: 1,
    applicationName: 'wa-replica migrate',
    onIdleError: () => {},
  });
  try {
    await migrate(db, schema);
  } finally {
    await db.destroy();
  }
}
