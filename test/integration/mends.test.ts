/** What copying or renaming leaves of a schema whose rows are all there: each start mends it. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { leftovers, mendLeftovers } from '../../src/store/mends.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA, useFreshDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 60, connections: ['conn_a', 'conn_b'] });
});
afterAll(() => simulator.close());

const env = (more: Record<string, string> = {}) => ({
  ...quickSettings(database.url, simulator.url),
  SEARCH: 'off',
  ...more,
});
const whats = async () => (await leftovers(database.db, SCHEMA)).map(({ what }) => what);

/** As logical replication leaves it: all rows, and sequences that were never drawn from. */
async function forgetNumbers(): Promise<void> {
  await database.query(
    `select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) from pg_sequences
      where schemaname = '${SCHEMA}'`,
  );
}

test('the ledger goes on behind its pages where a copy has left the sequences behind', async () => {
  expect(await runCommand(['sync'], env({ PAGE_LIMIT: '20' }))).toMatchObject({ status: 0 });
  const highest = 'select max(page_id)::integer as id from whatsapp.sync_pages';
  const [before] = await database.query<{ id: number }>(highest);
  await forgetNumbers();
  expect(await whats()).toEqual(['the next number of sync_pages is not above those of its rows']);
  simulator.world.applyChanges(20);
  expect(await runCommand(['sync'], env())).toMatchObject({
    status: 0,
    stderr: expect.stringContaining('mended: the next number of sync_pages is not above those of its rows\n'),
  });
  const [after] = await database.query<{ id: number }>(highest);
  expect(after!.id).toBeGreaterThan(before!.id);
  expect(await runCommand(['verify', '--offline'], env())).toMatchObject({ status: 0 });
  expect(await whats()).toEqual([]);
});

test('so does every number', async () => {
  const numbered = await database.query<{ table: string; column: string; sequence: string }>(
    `select table_name as table, column_name as column,
      pg_get_serial_sequence(format('%I.%I', table_schema, table_name), column_name) as sequence
      from information_schema.columns where table_schema = '${SCHEMA}' and is_identity = 'YES' order by 1`,
  );
  expect(numbered.length).toBeGreaterThan(3);
  for (const { table, column } of numbered) {
    const of = (connection: string, id: number) =>
      table === 'quarantine' ? `('${connection}', ${id}, 'message', '${id}')` : `('${connection}', ${id})`;
    // The highest is in the midst of the key.
    await database.query(`insert into ${SCHEMA}.${table}
      (connection_id, ${column}${table === 'quarantine' ? ', kind, record_sha256' : ''}) overriding system value
      values ${[of('a', 5), of('b', 6), of('b', 1000), of('c', 7)].join(', ')}`);
  }
  expect((await whats()).length).toBe(numbered.length);
  const mended = await mendLeftovers(database.db, SCHEMA);
  for (const { table, sequence } of numbered) {
    expect(mended).toContain(`the next number of ${table} is not above those of its rows`);
    expect(await database.query(`select nextval($1)::integer as next`, [sequence])).toEqual([{ next: 1001 }]);
  }
  expect(await whats()).toEqual([]);
});

test('what another process has drawn since is not set back', async () => {
  await database.query(
    `insert into ${SCHEMA}.gaps (connection_id, gap_id) overriding system value values ('a', 10)`,
  );
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  try {
    await other.query('begin');
    await other.query(`select pg_advisory_xact_lock(hashtext('wa_replica mends'), hashtext('${SCHEMA}'))`);
    const mending = mendLeftovers(database.db, SCHEMA);
    const waits = `select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`;
    await waitFor(async () => (await database.query(waits)).length > 0, { what: 'the second to wait' });
    await other.query(`select setval('${SCHEMA}.gaps_gap_id_seq', 11)`);
    await other.query('commit');
    expect(await mending).toEqual([]);
  } finally {
    await other.end();
  }
  expect(await database.query(`select last_value::integer as last from ${SCHEMA}.gaps_gap_id_seq`)).toEqual([
    { last: 11 },
  ]);
});

test('functions look into the schema under its new name', async () => {
  expect(await runCommand(['sync'], env())).toMatchObject({ status: 0 });
  // As a migration makes it where that is a default.
  await database.query(`set local quote_all_identifiers = on;
    alter function ${SCHEMA}.drop_consumer(text) set search_path = pg_catalog, ${SCHEMA}, pg_temp`);
  await database.query(`alter schema ${SCHEMA} rename to renamed`);
  const renamed = env({ WA_REPLICA_SCHEMA: 'renamed', SEARCH: 'on' });
  const looksElsewhere = `functions look into the schema ${SCHEMA}: ack_changes, consumer_start, drop_consumer, read_changes, register_consumer, restart_consumer, search_messages, tend_search`;
  expect((await runCommand(['doctor'], renamed)).stdout).toContain(
    `✗ copied or renamed: ${looksElsewhere}\n`,
  );
  expect((await runCommand(['migrate'], renamed)).stdout).toContain(`mended: ${looksElsewhere}\n`);
  expect((await runCommand(['migrate'], renamed)).stdout).not.toContain('mended');

  const [first] = await database.query<{ connection_id: string; change_no: string }>(
    `select * from renamed.read_changes('crm', 1)`,
  );
  const { connection_id, change_no } = first!;
  await database.query(`select renamed.ack_changes('crm', $1, $2)`, [connection_id, change_no]);
  const [sent] = await database.query<{ word: string }>(
    `select word from renamed.messages, regexp_split_to_table(body, '\\s+') word where word ~ '^[a-z]{4,}$' limit 1`,
  );
  expect(await database.query(`select from renamed.search_messages($1)`, [sent!.word])).not.toEqual([]);
  // Both name the schema in a text, too.
  const texts = await database.query<{ text: string }>(
    `select prosrc as text from pg_proc where pronamespace = 'renamed'::regnamespace
      and proname in ('read_changes', 'tend_search')`,
  );
  expect(texts).toHaveLength(2);
  for (const { text } of texts) expect(text.replaceAll('s.whatsapp', '')).not.toContain(SCHEMA);
});
