import { sql } from 'kysely';
import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { tellOfHolders } from '../../src/store/lock-holders.ts';
import { schemaVersion } from '../../src/store/migrator.ts';
import { startCli } from '../support/cli.ts';
import { SCHEMA, useFreshDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';

/* A migration, or the building of an index, behind somebody who has a transaction open for long. */

const database = useFreshDatabase({ migrated: true });

const opened: pg.Client[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((client) => client.end()));
});

async function connect(name: string) {
  const client = new pg.Client({ connectionString: database.url, application_name: name });
  opened.push(client);
  await client.connect();
  return { client, pid: (client as pg.Client & { readonly processID: number }).processID };
}

/** Somebody's transaction. */
async function open(name: string, statement: string) {
  const { client, pid } = await connect(name);
  await client.query(`begin; ${statement}`);
  return { pid, end: () => client.query('rollback') };
}

const waiting = () =>
  database.query(
    `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );

test.each<[signal: NodeJS.Signals, status: number | string, said: string]>([
  ['SIGTERM', 1, 'wa-replica: interrupted\n'],
  ['SIGKILL', 'SIGKILL', ''],
])('says whom it waits for, and leaves nobody waiting behind it after %s', async (signal, status, said) => {
  await database.query(`delete from ${SCHEMA}.kysely_migration where name >= '0012'`);
  const dump = await open('a dump', `select from ${SCHEMA}.quarantine`);
  const migrating = startCli(['migrate'], { DATABASE_URL: database.url });
  const line = new RegExp(
    `^waiting for a lock of session ${dump.pid} \\(a dump, idle in a transaction for \\d+ s\\)\n`,
  );
  await waitFor(() => line.test(migrating.stderr), { what: 'it to say so' });
  expect(await migrating.kill(signal)).toBe(status);
  expect(migrating.stderr.replace(line, '')).toBe(said);
  // Whoever reads that table comes after it.
  await waitFor(async () => (await waiting()).length === 0, { what: 'the server to notice' });
  await dump.end();
  expect((await schemaVersion(database.db, SCHEMA)).pending).toContain('0012_participants_aside');
});

test('the building of an index ends when it is asked to, and Postgres goes on with it', async () => {
  const writer = await open(
    'a writer',
    `insert into ${SCHEMA}.messages (connection_id, message_id) values ('c', 'open')`,
  );
  const migrating = startCli(['migrate'], { DATABASE_URL: database.url });
  await waitFor(() => migrating.stderr.includes(`session ${writer.pid} (a writer`), { what: 'it to wait' });
  expect(migrating.stdout).toMatch(/^the schema is up to date\nbuilding messages_by_person .*\n$/);
  expect(await migrating.kill('SIGTERM')).toBe(1);
  expect(migrating.stderr).toMatch(/^waiting for .*\nwa-replica: interrupted\n$/);
  await writer.end();
  const stands = `select from pg_index
    where indexrelid = to_regclass('${SCHEMA}.messages_by_person') and indisvalid`;
  await waitFor(async () => (await database.query(stands)).length > 0, { what: 'the index' });
});

test('whom a session waits for is told again where it has changed', async () => {
  const lock = `lock table ${SCHEMA}.contacts in share mode`;
  const one = await open('one', lock);
  const two = await open('two', lock);
  const { client, pid } = await connect('three');
  const waits = client.query(`begin; lock table ${SCHEMA}.contacts; rollback`);
  const told: string[] = [];
  const done = new AbortController();
  const session = sql`array[${pid}::integer]`;
  const telling = tellOfHolders(database.db, session, (who) => told.push(who), done.signal);
  await waitFor(() => told.length === 1, { what: 'both to be told of' });
  await one.end();
  await waitFor(() => told.length === 2, { what: 'the other to be told of' });
  await two.end();
  await waits;
  done.abort();
  await telling;
  const sessions = told.map((who) => [...who.matchAll(/session (\d+)/g)].map(([, id]) => Number(id)));
  expect(sessions).toEqual([[one.pid, two.pid], [two.pid]]);
});
