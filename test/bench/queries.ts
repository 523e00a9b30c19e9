import type { Kysely } from 'kysely';
import { openDatabase } from '../../src/store/database.ts';
import type { Database } from '../../src/store/schema.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import { alternate, type Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** A database with these rows and indexes, vacuumed, whose tables need no schema before their names. */
export async function prepare(
  stage: Stage,
  rows: (database: BenchDatabase) => Promise<void>,
  indexes: (db: Kysely<Database>) => Promise<unknown>,
): Promise<BenchDatabase> {
  const database = await stage.postgres.createDatabase();
  await rows(database);
  const db = openDatabase({
    url: database.url,
    schema: SCHEMA,
    poolSize: 2,
    applicationName: 'wa-replica bench',
    onIdleError: () => {},
  });
  await indexes(db);
  await db.destroy();
  await database.query('vacuum (analyze)');
  await database.query(`set search_path to ${SCHEMA}`);
  return database;
}

/** How long each of the queries takes, in milliseconds. */
export function timesOf(stage: Stage, database: BenchDatabase, queries: Readonly<Record<string, string>>) {
  const steps = Object.entries(queries).map(([name, query]) => async () => {
    // Once unmeasured: a screen is seldom the first to look.
    await explain(database, query);
    return { [name]: await explain(database, query) };
  });
  return alternate(steps, stage.options.rounds, stage.note);
}

interface Explained {
  readonly 'Execution Time': number;
  readonly 'Planning Time': number;
  readonly Plan: { readonly 'Actual Rows': number };
}

/** How long a query takes, in milliseconds, by the server's own account. */
async function explain(database: BenchDatabase, query: string): Promise<Sample> {
  const [row] = await database.query<{ 'QUERY PLAN': [Explained] }>(
    `explain (analyze, format json) ${query}`,
  );
  const [found] = row!['QUERY PLAN'];
  return {
    value: found['Planning Time'] + found['Execution Time'],
    details: { 'planning ms': found['Planning Time'], rows: found.Plan['Actual Rows'] },
  };
}
