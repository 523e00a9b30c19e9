import { describe, expect, onTestFinished, test } from 'vitest';
import { ErasureKey } from '../../src/lib/erasure-key.ts';
import { PgClient } from '../../src/store/client.ts';
import { runCommand } from '../support/command.ts';
import { createTestDatabase } from '../support/database.ts';
import { PGBOUNCER, startPgbouncer, WITHOUT } from '../support/pgbouncer.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { CLOCK, Doctor, HEARD, REACHABLE, UP_TO_DATE } from './doctor.ts';

const doctor = Doctor.use();
const { database, urlWith, examine } = doctor;

test('all is well', async () => {
  const { lines } = await examine(database.url);
  const may = expect.stringMatching(/^✓ privileges: \w+ may read and write the tables$/);
  expect(lines).toEqual([REACHABLE, CLOCK, may, UP_TO_DATE, HEARD]);
  const off = await examine(database.url, { LISTEN_DATABASE_URL: 'off' });
  expect(off.lines.at(-1)).toBe('✓ listen: off, wake-ups come with the next renewal');
});

test('a database that is only read', async () => {
  await database.query(`alter database ${database.name} set default_transaction_read_only = on`);
  const { lines } = await examine(database.url);
  expect(lines.slice(1, 3)).toEqual([
    '✗ database: read-only',
    expect.stringMatching(/^ {4}.*point DATABASE_URL at the primary.*default_transaction_read_only/),
  ]);
});

test('the key of the erasures is there, missing, or another', async () => {
  const key = 'a key of the tests that nobody guesses';
  const last = async (more: Record<string, string>) => (await examine(database.url, more)).lines;
  expect((await last({ ERASURE_KEY: key })).at(-1)).toBe(
    '✓ erasure: ERASURE_KEY is set; nobody was erased yet',
  );
  await database.query(`insert into whatsapp.erasures (connection_id, key_fingerprint) values ('', $1)`, [
    new ErasureKey(key).fingerprint,
  ]);
  expect((await last({ ERASURE_KEY: key })).at(-1)).toBe(
    '✓ erasure: ERASURE_KEY is the key that people were erased with',
  );
  expect((await last({})).slice(-2)).toEqual([
    '✗ erasure: people were erased, and ERASURE_KEY is not set: nothing is written',
    '    set the key that it was done with, in every process that writes',
  ]);
  expect((await last({ ERASURE_KEY: `${key}, but another` })).slice(-2)).toEqual([
    '✗ erasure: ERASURE_KEY is not the key that people were erased with: nothing is written',
    '    restore that one',
  ]);
});

describe('no way in', () => {
  /** Whether the server lets one in by this URL. */
  async function lets(url: string): Promise<boolean> {
    const client = new PgClient({ connectionString: url });
    const connected = await client.connect().then(
      () => true,
      () => false,
    );
    await client.end();
    return connected;
  }

  test('nobody listens', async () => {
    expect((await examine(urlWith({ port: '9' }))).lines).toEqual([
      '✗ database: not reachable (ECONNREFUSED)',
      '    nothing listens there: check that Postgres runs, and host and port of DATABASE_URL',
    ]);
  });

  test('no such database', async () => {
    expect((await examine(urlWith({ pathname: '/nowhere' }))).lines).toEqual([
      '✗ database: not reachable (3D000)',
      '    there is no such database: create it, or check DATABASE_URL',
    ]);
  });

  test('a wrong password', async (context) => {
    const url = urlWith({ password: 'wrong-password' });
    context.skip(await lets(url), 'this server asks for no password');
    expect((await examine(url)).lines).toEqual([
      '✗ database: not reachable (28P01)',
      '    no such user, or wrong password: check DATABASE_URL',
    ]);
  });

  test('no password, where the server wants one', async (context) => {
    const url = urlWith({ password: '' });
    context.skip(await lets(url), 'this server asks for no password');
    const told = /^ {4}the server wants a password: .*DATABASE_URL/;
    const { lines } = await examine(url);
    expect(lines).toEqual(['✗ database: not reachable (NO_PASSWORD)', expect.stringMatching(told)]);
  });

  test('a way that swallows everything', async () => {
    const { hostname, port } = new URL(database.url);
    const proxy = await startTcpProxy({ host: hostname, port: Number(port) });
    proxy.blackhole();
    const url = urlWith({ port: String(proxy.port) });
    const { lines } = await examine(url);
    expect(lines[0]).toMatch(/^✗ database: not reachable/);
    expect(lines[1]).toMatch(/no answer.*check host, port/);
    await proxy.close();
  });

  test('a server without TLS, where the URL wants it', async () => {
    const url = urlWith({ search: '?sslmode=verify-full' });
    const { lines } = await examine(url);
    expect(lines[0]).toBe('✗ database: not reachable (NO_CONNECTION)');
    expect(lines[1]).toMatch(/sslmode of DATABASE_URL/);
    // Any other command tells it too, and blames no fault of its own.
    const { status, stderr } = await runCommand(['status'], quickSettings(url, doctor.simulator.url));
    expect(status).toBe(1);
    expect(stderr).toMatch(/^wa-replica: database: using Postgres: NO_CONNECTION\n.*sslmode of DATABASE_URL/);
  });
});

describe('a schema that is not this version', () => {
  test('none yet', async () => {
    await database.query('drop schema whatsapp cascade');
    const { status, lines } = await examine(database.url);
    expect(status).toBe(0);
    expect(lines.slice(2, 5)).toEqual([
      expect.stringMatching(/^✓ privileges: \w+ may create the schema whatsapp$/),
      expect.stringMatching(/^! schema: \d+ migrations pending, none done yet$/),
      '    run `wa-replica migrate`, or let `run` do it',
    ]);
  });

  test('ahead', async () => {
    await database.query(`insert into whatsapp.kysely_migration values ('9999_later', now()::text)`);
    const { status, lines } = await examine(database.url);
    expect(status).toBe(1);
    expect(lines.slice(3, 5)).toEqual([
      expect.stringMatching(/^✗ schema: 9999_later is newer than this program \(\d{4}_\w+\)$/),
      '    run a newer wa-replica',
    ]);
  });

  test('behind', async () => {
    const [last] = await database.query<{ name: string }>(
      'delete from whatsapp.kysely_migration where name = (select max(name) from whatsapp.kysely_migration) returning name',
    );
    expect(last).toBeDefined();
    const { lines } = await examine(database.url);
    expect(lines[3]).toMatch(/^! schema: 1 migration pending, the last done is \d{4}_/);
  });
});

test('a consumer of the change feed that loses changes soon, and one that has lost some', async () => {
  await database.query(
    `insert into whatsapp.sync_state (connection_id, last_change_no) values ('conn_a', 2)`,
  );
  await database.query(`insert into whatsapp.changes (connection_id, change_no, at) values
    ('conn_a', 1, now() - interval '14 days'), ('conn_a', 2, now())`);
  await database.query(
    `select whatsapp.register_consumer('crm'), whatsapp.register_consumer(E'o''clock\\x1b[2J', 'now')`,
  );
  const told = async () => {
    const { status, lines } = await examine(database.url);
    return { status, lines: lines.slice(4, -1) };
  };
  expect(await told()).toEqual({ status: 0, lines: [] });
  await database.query(`update whatsapp.changes set at = at - interval '2 days'`);
  expect(await told()).toEqual({
    status: 0,
    lines: [
      expect.stringMatching(
        /^! consumer crm: 16 d 0 h behind, and in 14 d 0 h changes are pruned that it has not read$/,
      ),
      "    start what reads as it, or SELECT whatsapp.drop_consumer('crm');",
    ],
  });
  await database.query(`delete from whatsapp.changes where change_no = 1`);
  await database.query(`update whatsapp.change_positions set change_no = 0`);
  expect(await told()).toEqual({
    status: 1,
    lines: [
      '✗ consumer crm: comes too late on 1 connection: changes that it has not read are gone',
      "    its next read names the connection: SELECT whatsapp.restart_consumer('crm', '…'); then read that one's tables anew",
      "✗ consumer o'clock\uFFFD[2J: comes too late on 1 connection: changes that it has not read are gone",
      "    its next read names the connection: SELECT whatsapp.restart_consumer('o''clock\uFFFD[2J', '…'); then read that one's tables anew",
    ],
  });
});

test('a LISTEN that leads to another database hears nothing', async () => {
  const other = await createTestDatabase();
  onTestFinished(() => other.drop());
  const { status, lines } = await examine(database.url, { LISTEN_DATABASE_URL: other.url });
  expect([status, lines.slice(4)]).toEqual([
    1,
    [
      '✗ listen: NOTIFY is not heard: another database, or a pooler in transaction mode?',
      '    LISTEN_DATABASE_URL must lead to the same database, past the pooler',
    ],
  ]);
});

describe.skipIf(PGBOUNCER === undefined)(`a pooler in transaction mode${WITHOUT}`, () => {
  test('needs another way for LISTEN, or none', async () => {
    const pooler = await startPgbouncer(database.url, 3);
    const { status, lines } = await examine(pooler.url);
    expect(status).toBe(1);
    expect(lines.slice(4)).toEqual([
      '✗ listen: NOTIFY is not heard: a pooler in transaction mode?',
      '    set LISTEN_DATABASE_URL to a URL past the pooler, or to off',
    ]);
    const past = await examine(pooler.url, { LISTEN_DATABASE_URL: database.url });
    expect(past).toMatchObject({ status: 0 });
    expect(past.lines.at(-1)).toBe(HEARD);
    expect(await examine(pooler.url, { LISTEN_DATABASE_URL: 'off' })).toMatchObject({ status: 0 });
    const nowhere = await examine(pooler.url, {
      LISTEN_DATABASE_URL: urlWith({ port: '9' }),
    });
    expect(nowhere.lines.slice(4)).toEqual([
      '✗ listen: no connection (ECONNREFUSED)',
      '    check LISTEN_DATABASE_URL',
    ]);
    await pooler.stop();
  });
});

test('the index of the search', async () => {
  const missing = await examine(database.url, { SEARCH: 'on' });
  expect(missing.lines.slice(-2)).toEqual([
    '! search: the index is not there: every message is read for a search',
    expect.stringContaining('wa-replica migrate'),
  ]);
  expect(await runCommand(['migrate'], { DATABASE_URL: database.url })).toMatchObject({ status: 0 });
  expect((await examine(database.url, { SEARCH: 'on' })).lines.at(-1)).toBe('✓ search: the index is there');
  expect((await examine(database.url)).lines.at(-2)).toContain('! search: SEARCH is off');
  const parts = { SEARCH: 'parts' };
  expect((await examine(database.url, parts)).lines.slice(-2)).toEqual([
    '! search: parts of words have no index: there is no pg_trgm',
    expect.stringContaining('create extension pg_trgm'),
  ]);
  await database.query('create extension pg_trgm');
  expect((await examine(database.url, parts)).lines.at(-2)).toContain(
    '! search: the index of parts of words is not',
  );
  expect(await runCommand(['migrate'], { DATABASE_URL: database.url, ...parts })).toMatchObject({
    status: 0,
  });
  expect((await examine(database.url, parts)).lines.at(-1)).toBe(
    '✓ search: the index of parts of words is there',
  );
  expect((await examine(database.url, { SEARCH: 'on' })).lines.at(-2)).toContain(
    '! search: SEARCH is on, and the',
  );
});

test("the CRM's contacts", async () => {
  const crm = (query: string, more: Record<string, string> = {}) =>
    examine(database.url, { CRM_CONTACTS_QUERY: query, ...more });
  const good = await crm(`select 1, '030 12345'`, { CRM_DEFAULT_COUNTRY: 'DE' });
  expect(good.lines.at(-1)).toBe('✓ crm: CRM_CONTACTS_QUERY can be read');
  const lost = await crm(`select 1, '030 12345'`);
  expect(lost.lines.slice(-2)).toEqual([
    '! crm: CRM_CONTACTS_QUERY can be read; numbers that are written without a country cannot',
    expect.stringContaining('CRM_DEFAULT_COUNTRY'),
  ]);
  expect((await crm('select id, phone from nowhere')).lines.slice(-2)).toEqual([
    '✗ crm: running CRM_CONTACTS_QUERY: 42P01',
    expect.stringContaining('there is no such table'),
  ]);
  expect(await database.query('select from whatsapp.crm_links')).toEqual([]);
});
