/** The first SIGTERM or SIGINT while Postgres keeps a command waiting: it ends, nothing is done, no session is left. */
import pg from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { changesChannel } from '../../src/store/notify.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA, useTestDatabase } from '../support/database.ts';
import { dump } from '../support/dump.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let env: Record<string, string>;
let connection: string;
let phone: string;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 50, connections: 1 });
  env = {
    ...quickSettings(database.url, simulator.url),
    ERASURE_KEY: 'a key of the tests that nobody guesses',
    CRM_CONTACTS_QUERY: `select 'crm', '+15555550123'`,
  };
  for (const command of ['migrate', 'sync']) {
    expect(await runCommand([command], env)).toMatchObject({ status: 0 });
  }
  const [one] = await database.query<{ connection_id: string; phone_e164: string }>(
    'select connection_id, phone_e164 from whatsapp.contacts where phone_e164 is not null order by 2 limit 1',
  );
  connection = one!.connection_id;
  phone = one!.phone_e164;
  // Something to do for each.
  const json = `{"message_id":"m","conversation_id":"c","seq":1}`;
  await database.query(
    `insert into whatsapp.quarantine (connection_id, kind, record_id, record_json) values ($1, 'message', 'm', $2)`,
    [connection, json],
  );
  await database.query('insert into whatsapp.gaps (connection_id) values ($1)', [connection]);
  await database.query(
    `insert into whatsapp.media (connection_id, message_id, state) values ($1, 'm', 'failed')`,
    [connection],
  );
});
afterAll(() => simulator.close());

/** Somebody else's transaction locks tables, until the test ends. */
async function lock(tables: string, mode: string): Promise<void> {
  const client = new pg.Client({ connectionString: database.url });
  onTestFinished(() => client.end());
  await client.connect();
  await client.query(`begin; lock table ${tables} in ${mode} mode`);
}

/** Sessions of commands that wait for a lock. */
const waiting = async () =>
  (
    await database.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    )
  ).length;

/** How each of the commands ends that wait for the lock when the signal comes, all at once. */
async function interrupted(commands: readonly (readonly string[])[]) {
  const stop = new AbortController();
  const running: ReturnType<typeof runCommand>[] = [];
  for (const args of commands) {
    const before = await waiting();
    const command = runCommand(args, env, stop.signal);
    running.push(command);
    await Promise.race([
      waitFor(async () => (await waiting()) > before, { what: `${args.join(' ')} to wait` }),
      command.then(({ stdout, stderr }) => {
        throw new Error(`${args.join(' ')} did not wait: ${stdout}${stderr}`);
      }),
    ]);
  }
  stop.abort();
  return await Promise.all(running);
}

const INTERRUPTED = { status: 1, stderr: 'wa-replica: interrupted\n' };

test('whatever reads', async () => {
  const [{ all }] = (await database.query<{ all: string }>(
    `select string_agg('whatsapp.' || tablename, ', ') as all from pg_tables
      where schemaname = 'whatsapp' and tablename <> 'kysely_migration'`,
  )) as [{ all: string }];
  await lock(all, 'access exclusive');
  const ended = await interrupted([
    ['status'],
    ['status', '--watch'],
    ['search', 'hello'],
    ['tail'],
    ['tail', '--consumer', 'crm'],
    ['gaps', 'list'],
    ['quarantine', 'list'],
    ['quarantine', 'show', '1'],
    ['media', 'status'],
    ['media', 'path', 'm'],
    ['erase', '--phone', phone],
    ['verify', '--offline'],
    ['verify'],
    ['sync'],
    ['sync', '--connection', connection],
    ['doctor'],
  ]);
  expect(ended).toEqual(ended.map(() => expect.objectContaining(INTERRUPTED)));
  expect(ended.map(({ stdout }) => stdout).join('')).toBe('✓ settings: complete and well-formed\n');
  await waitFor(async () => (await waiting()) === 0, {
    what: 'the sessions to give up, though nothing lets go',
  });
});

test('a tail that looks again', async () => {
  const stop = new AbortController();
  const tail = runCommand(['tail'], env, stop.signal);
  const listening = () =>
    database.query(
      `select from pg_stat_activity where datname = current_database() and query ilike 'listen %'`,
    );
  await waitFor(async () => (await listening()).length > 0, { what: 'the tail to listen' });
  await lock('whatsapp.changes', 'access exclusive');
  await database.query('select pg_notify($1, $2)', [changesChannel(SCHEMA), '']);
  await waitFor(waiting, { what: 'the tail to wait' });
  stop.abort();
  expect(await tail).toMatchObject({ ...INTERRUPTED, stdout: '' });
});

test('whatever writes: it is as if it had not begun', async () => {
  const before = await dump(database);
  const tables = ['gaps', 'quarantine', 'media', 'crm_links', 'sync_state', 'suppressions'];
  await lock(tables.map((name) => `whatsapp.${name}`).join(', '), 'share');
  const ended = await interrupted([
    ['gaps', 'ack', '1'],
    ['quarantine', 'discard', '1', '--yes'],
    ['quarantine', 'retry'],
    ['media', 'retry'],
    ['link'],
    ['resync', '--connection', connection, '--yes'],
    ['erase', '--phone', phone, '--yes'],
  ]);
  expect(ended).toEqual(ended.map(() => expect.objectContaining({ ...INTERRUPTED, stdout: '' })));
  await waitFor(async () => (await waiting()) === 0, {
    what: 'the sessions to give up, though nothing lets go',
  });
  expect(await dump(database)).toEqual(before);
});

test('a verification in mid-comparison gives its leases back', async () => {
  await lock('whatsapp.messages', 'access exclusive');
  expect(await interrupted([['verify']])).toMatchObject([INTERRUPTED]);
  expect(await database.query('select from whatsapp.sync_state where lease_owner is not null')).toEqual([]);
});
