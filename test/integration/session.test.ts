import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { type Kysely, sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import type { Database } from '../../src/store/schema.ts';
import { inTransaction } from '../../src/store/transaction.ts';
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

const BEGIN = Buffer.from('start transaction');
const limits = { idleTimeout: 60_000 };

test('a transaction begins together with its first statement', async () => {
  let sent = Buffer.alloc(0);
  const held: (() => void)[] = [];
  const db = open(
    await behind({
      // Nothing is answered from the beginning on until the statement is there.
      fromClient(chunk) {
        sent = Buffer.concat([sent, chunk]);
        if (sent.includes('as "in one go"')) for (const letGo of held.splice(0)) letGo();
      },
      fromServer: (_, pass) =>
        sent.includes(BEGIN) && !sent.includes('as "in one go"') ? held.push(pass) : pass(),
    }),
  );
  const rows = await inTransaction(db, limits, async (trx) => {
    const first = sql`select ${7}::integer as "in one go",
      current_setting('idle_in_transaction_session_timeout') as idle`;
    return (await first.execute(trx)).rows;
  });
  expect(rows).toEqual([{ 'in one go': 7, idle: '1min' }]);
});

test('what is to be written waits until the transaction has begun', async () => {
  await database.query('create table public.written (one integer)');
  const db = open(await behind({ fromClient: refusingToBegin }));
  const write = sql`insert into public.written values (1)`;
  await expect(inTransaction(db, limits, (trx) => write.execute(trx))).rejects.toMatchObject({
    code: '42601',
  });
  expect(await database.query('select * from public.written')).toEqual([]);
});

test('a transaction that did not begin fails with its first statement, and the session goes on', async () => {
  let refuse = true;
  const db = open(await behind({ fromClient: (chunk) => refuse && refusingToBegin(chunk) }));
  const look = (trx: Kysely<Database>) => sql`select 1 as one`.execute(trx);
  await expect(inTransaction(db, limits, look)).rejects.toMatchObject({ code: '42601' });
  refuse = false;
  expect((await inTransaction(db, limits, look)).rows).toEqual([{ one: 1 }]);
});

test('a limit that Postgres refuses is told, and not what failed after it', async () => {
  const db = open(database.url);
  const look = (trx: Kysely<Database>) => sql`select 1`.execute(trx);
  await expect(inTransaction(db, { idleTimeout: -1 }, look)).rejects.toMatchObject({ code: '22023' });
  await expect(inTransaction(db, { idleTimeout: -1 }, async () => {})).rejects.toMatchObject({
    code: '22023',
  });
});

test('what fails by itself before its first statement is told, and its transaction ends', async () => {
  const db = open(database.url);
  const fail = () => Promise.reject(new RangeError('of its own'));
  await expect(inTransaction(db, { idleTimeout: -1 }, fail)).rejects.toThrow('of its own');
  const { rows } = await inTransaction(db, limits, (trx) => sql`select 1 as one`.execute(trx));
  expect(rows).toEqual([{ one: 1 }]);
});

test('behind a pooler each statement waits for the one before it', async () => {
  let unanswered = 0;
  let most = 0;
  const db = open(
    await behind({
      fromClient: (chunk) => {
        // 'Q', a statement without parameters, or 'S', the end of one that has some
        if (chunk[0] === 0x51 || chunk.subarray(-5).equals(SYNC)) most = Math.max(most, ++unanswered);
      },
      fromServer: (chunk, pass) => {
        greetAsPooler(chunk);
        if (chunk.subarray(-6, -1).equals(READY)) unanswered = 0;
        pass();
      },
    }),
  );
  await inTransaction(db, limits, async (trx) => await sql`select ${1}::integer`.execute(trx));
  expect(most).toBe(1);
});

/** 'S' with its length; 'Z' with its length, which a letter for the state of the transaction follows. */
const SYNC = Buffer.from([0x53, 0, 0, 0, 4]);
const READY = Buffer.from([0x5a, 0, 0, 0, 5]);

/** The server answers with a syntax error, and the session goes on without a transaction. */
function refusingToBegin(chunk: Buffer): void {
  const at = chunk.indexOf(BEGIN);
  if (at >= 0) chunk.write('stqrt', at);
}

/** As poolers do, by a process id of their own. */
function greetAsPooler(chunk: Buffer): void {
  // BackendKeyData: 'K', its length of 12, process id, secret.
  const at = chunk.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]));
  if (at >= 0) chunk.writeInt32BE(1 + (chunk.readInt32BE(at + 5) % 1000), at + 5);
}

function behindPooler(): Promise<string> {
  return behind({
    fromServer(chunk, pass) {
      greetAsPooler(chunk);
      pass();
    },
  });
}

/** Who stands between, and may change what passes or let it wait. */
interface Between {
  fromClient?(chunk: Buffer): unknown;
  fromServer?(chunk: Buffer, pass: () => void): unknown;
}

/** The test's database, behind somebody. */
async function behind({ fromClient, fromServer }: Between): Promise<string> {
  const { hostname, port } = new URL(database.url);
  const server = createServer((client) => {
    const postgres = connect(Number(port), hostname);
    client.on('data', (chunk: Buffer) => {
      fromClient?.(chunk);
      postgres.write(chunk);
    });
    postgres.on('data', (chunk: Buffer) => {
      const pass = () => client.write(chunk);
      if (fromServer === undefined) pass();
      else fromServer(chunk, pass);
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

test('statements of a transaction are not compiled, which takes seconds that nothing interrupts', async () => {
  const { url, name } = database;
  await database.query(`alter database ${name} set jit = on`);
  onTestFinished(async () => void (await database.query(`alter database ${name} reset jit`)));
  const db = open(url);
  const jit = sql<{ jit: string }>`select current_setting('jit') as jit`;
  const inside = await inTransaction(db, { idleTimeout: 60_000 }, (trx) => jit.execute(trx));
  expect(inside.rows).toEqual([{ jit: 'off' }]);
  expect((await jit.execute(db)).rows).toEqual([{ jit: 'on' }]);
});
