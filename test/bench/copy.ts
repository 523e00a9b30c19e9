import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { psqlVersion } from './machine.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** The rows that a replica has ended with, for what is to write the same ones by other means. */
export interface Rows {
  readonly count: number;
  /** A CSV of all columns, in the order in which the rows were written. */
  readonly file: string;
  remove(): void;
}

/** Writes the messages of a replica into a file. */
export async function exportRows({ postgres }: Stage, database: BenchDatabase): Promise<Rows> {
  const file = path.join(postgres.folder, `${database.name}.csv`);
  // In the order of their places in the table, which nothing has changed since.
  const [row] = await database.query<{ n: number }>(`select count(*)::integer as n from ${SCHEMA}.messages`);
  await database.query(`copy ${SCHEMA}.messages to '${file}' (format csv)`);
  return { count: row!.n, file, remove: () => rmSync(file, { force: true }) };
}

/**
 * Baseline, the limit: `psql \copy` of the rows into the same empty table, with its key and indexes. The time is
 * psql's own `\timing` of the one command. Where there is no psql the server reads the file itself, which is no
 * slower.
 */
export async function copy(stage: Stage, rows: Rows): Promise<Sample> {
  const { postgres } = stage;
  const database = await postgres.createDatabase();
  try {
    const from = postgres.cpu();
    const ms = psqlVersion() === undefined ? await serverSide(database, rows) : await psql(database, rows);
    const cpu = postgres.cpu() - from;
    const [row] = await database.query<{ n: number }>(
      `select count(*)::integer as n from ${SCHEMA}.messages`,
    );
    if (row!.n !== rows.count) throw new Error(`copied ${row!.n} rows, not ${rows.count}`);
    return { value: rows.count / (ms / 1000), details: { seconds: ms / 1000, 'Postgres CPU s': cpu } };
  } finally {
    await database.drop();
  }
}

async function psql(database: BenchDatabase, { file }: Rows): Promise<number> {
  const url = new URL(database.url);
  const env = {
    PATH: process.env.PATH,
    PGHOST: url.hostname,
    PGPORT: url.port,
    PGUSER: decodeURIComponent(url.username),
    PGPASSWORD: decodeURIComponent(url.password),
    PGDATABASE: url.pathname.slice(1),
    PGSSLMODE: 'disable',
    LC_ALL: 'C',
  };
  const commands = ['\\timing on', `\\copy ${SCHEMA}.messages from '${file}' (format csv)`];
  const args = ['-X', '-v', 'ON_ERROR_STOP=1', ...commands.flatMap((one) => ['-c', one])];
  const { stdout } = await promisify(execFile)('psql', args, { env });
  const time = /^Time: ([\d.]+) ms/m.exec(stdout)?.[1];
  if (time === undefined) throw new Error(`psql tells no time:\n${stdout}`);
  return Number(time);
}

async function serverSide(database: BenchDatabase, { file }: Rows): Promise<number> {
  const startedAt = performance.now();
  await database.query(`copy ${SCHEMA}.messages from '${file}' (format csv)`);
  return performance.now() - startedAt;
}
