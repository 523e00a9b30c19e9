import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { sql } from 'kysely';
import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { recognize } from '../../src/errors/errors.ts';
import { errorFields } from '../../src/ops/logger.ts';
import { PgClient } from '../../src/store/client.ts';
import { PgPool } from '../../src/store/pool.ts';
import { BESIDE, inTransaction } from '../../src/store/transaction.ts';
import { runCommand } from '../support/command.ts';
import { openTestDatabase, useTestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';

/* What pg tells of a connection by text alone has a code and a remedy all the same. */

const database = useTestDatabase({ migrated: true });

async function open(config: pg.ClientConfig = {}): Promise<PgClient> {
  const client = new PgClient({ connectionString: database.url, ...config });
  client.on('error', () => {});
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

/** Answers the login, and hangs up without a word at the first statement. */
async function hangingUp(): Promise<string> {
  const { hostname, port: served } = new URL(database.url);
  const server = createServer((socket) => {
    const postgres = connect(Number(served), hostname);
    for (const end of [socket, postgres]) end.on('error', () => {});
    postgres.on('data', (chunk) => socket.write(chunk));
    postgres.on('close', () => socket.end());
    socket.on('close', () => postgres.destroy());
    // Query or Parse; the messages of a login are others.
    socket.on('data', (chunk) =>
      /^[QP]/.test(chunk.toString('latin1')) ? postgres.end() : postgres.write(chunk),
    );
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return Object.assign(new URL(database.url), { hostname: '127.0.0.1', port: String(port) }).href;
}

const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => expect.unreachable('it was to fail'),
    (error: unknown) => error,
  );

test('a connection that ends under a statement, or has ended before it, is lost', async () => {
  const client = await open({ connectionString: await hangingUp() });
  const told = once(client, 'error');
  for (const error of [await failureOf(client.query('select 1')), ...(await told)]) {
    expect(errorFields(error)).toEqual({
      kind: 'database',
      error: 'using Postgres: CONNECTION_LOST',
      hint: expect.stringMatching(/^the connection was cut: check/),
    });
  }
  expect(recognize(await failureOf(client.query('select 1')))).toMatchObject({ code: 'CONNECTION_LOST' });
});

test('what fails after the server has ended the session tells why it did', async () => {
  const db = openTestDatabase(database.url);
  onTestFinished(() => db.destroy());
  // Kysely's rollback fails, too, and what it fails with is what is told.
  const ended = inTransaction(db, BESIDE, async (trx) => {
    await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx);
  });
  expect(recognize(await failureOf(ended))).toMatchObject({ kind: 'database', code: '57P01' });
});

test('one that we end is lost to the statement that runs on it', async () => {
  const client = await open();
  const statement = failureOf(client.query('select pg_sleep(60)'));
  const runs = () => database.query(`select from pg_stat_activity where query = 'select pg_sleep(60)'`);
  await waitFor(async () => (await runs()).length > 0, { what: 'the statement to run' });
  const ended = client.end();
  await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(60)'`,
  );
  await ended;
  expect(recognize(await statement)).toMatchObject({
    kind: 'database',
    code: expect.stringMatching(/LOST|57P01/),
  });
});

test('an answer that does not come in time is no loss', async () => {
  const client = await open({ query_timeout: 50 });
  const error = recognize(await failureOf(client.query('select pg_sleep(0.5)')));
  expect(error).toMatchObject({
    kind: 'database',
    code: 'ETIMEDOUT',
    hint: expect.stringMatching(/no answer/),
  });
});

test('a pool of which no connection comes free says so', async () => {
  const pool = new PgPool({ connectionString: database.url, max: 1, connectionTimeoutMillis: 50 });
  onTestFinished(() => pool.end());
  const taken = await pool.connect().catch(() => pool.connect());
  const error = recognize(await failureOf(pool.connect()));
  taken.release();
  expect(error).toMatchObject({ code: 'POOL_BUSY', hint: expect.stringMatching(/DB_POOL_SIZE/) });
});

test('what Postgres itself refuses keeps its code', async () => {
  const client = await open();
  expect(recognize(await failureOf(client.query('select 1/0')))).toMatchObject({ code: '22012' });
});

test('a command tells it as what it is', async () => {
  const { status, stderr } = await runCommand(['status'], { DATABASE_URL: await hangingUp() });
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringMatching(
      /^wa-replica: database: using Postgres: CONNECTION_LOST\n {2}the connection was cut/,
    ),
  });
});
