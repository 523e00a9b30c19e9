import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { type Kysely, sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import type { Database } from '../../src/store/schema.ts';
import { openTestDatabase, useTestDatabase } from '../support/database.ts';

const database = useTestDatabase();

/** For one statement after the other, so that one session is enough, and each meets what those before have left. */
function open(url: string): Kysely<Database> {
  const db = openTestDatabase(url);
  onTestFinished(() => db.destroy());
  return db;
}

let texts = 0;
/** Runs a statement that no other test has. */
function repeating(db: Kysely<Database>): () => Promise<unknown> {
  const text = sql.raw(`as "statement ${++texts}"`);
  return async () => (await sql<{ [name: string]: number }>`select ${7}::integer ${text}`.execute(db)).rows;
}

const named = async (db: Kysely<Database>) =>
  (await sql<{ statement: string }>`select statement from pg_prepared_statements`.execute(db)).rows.map(
    ({ statement }) => statement,
  );

test('a statement that comes again and again gets a name, and is planned anew each time', async () => {
  const db = open(database.url);
  const run = repeating(db);
  await run();
  await run();
  expect(await named(db)).toEqual([]);
  for (let time = 0; time < 7; time++) expect(await run()).toEqual([{ [`statement ${texts}`]: 7 }]);
  expect(await named(db)).toEqual([`select $1::integer as "statement ${texts}"`]);
  const plans = await sql`select generic_plans::integer as kept from pg_prepared_statements`.execute(db);
  expect(plans.rows).toEqual([{ kept: 0 }]);
});

test('where another answers than the one that answered the login, nothing has a name, and nothing is set', async () => {
  const db = open(await behindPooler());
  const run = repeating(db);
  for (let time = 0; time < 5; time++) expect(await run()).toEqual([{ [`statement ${texts}`]: 7 }]);
  expect(await named(db)).toEqual([]);
  const { rows } = await sql`select current_setting('plan_cache_mode') as mode`.execute(db);
  expect(rows).toEqual([{ mode: 'auto' }]);
});

test('a session whose names were taken away fails once, and goes on without them', async () => {
  const db = open(database.url);
  const run = repeating(db);
  for (let time = 0; time < 3; time++) await run();
  await sql`deallocate all`.execute(db);
  await expect(run()).rejects.toMatchObject({ code: '26000' });
  for (let time = 0; time < 3; time++) expect(await run()).toEqual([{ [`statement ${texts}`]: 7 }]);
  expect(await named(db)).toEqual([]);
});

test('a statement whose columns have changed fails once, and goes on', async () => {
  const db = open(database.url);
  await sql`create table public.wide (one integer)`.execute(db);
  const run = async () =>
    (await sql`select * from public.wide where one is distinct from ${1}::integer`.execute(db)).rows;
  for (let time = 0; time < 3; time++) await run();
  await sql`alter table public.wide add two integer`.execute(db);
  await expect(run()).rejects.toMatchObject({ code: '0A000' });
  expect(await run()).toEqual([]);
});

test('a statement without parameters, as those that end a transaction, has no name', async () => {
  const db = open(database.url);
  for (let time = 0; time < 5; time++) await sql`select 1`.execute(db);
  expect(await named(db)).toEqual([]);
});

/** The test's database behind somebody who greets with a process id of his own, as poolers do. */
async function behindPooler(): Promise<string> {
  const { hostname, port } = new URL(database.url);
  const server = createServer((client) => {
    const postgres = connect(Number(port), hostname);
    client.pipe(postgres);
    postgres.on('data', (chunk: Buffer) => {
      // BackendKeyData: 'K', its length of 12, process id, secret.
      const at = chunk.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]));
      if (at >= 0) chunk.writeInt32BE(1 + (chunk.readInt32BE(at + 5) % 1000), at + 5);
      client.write(chunk);
    });
    for (const socket of [client, postgres]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        client.destroy();
        postgres.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const url = new URL(database.url);
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return url.href;
}
