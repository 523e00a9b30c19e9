import { expect, test } from 'vitest';
import { foldLedger } from '../../src/store/ledger.ts';
import { runCommand } from '../support/command.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const scene = OneConnection.use();

/** Columns that somebody adds, called as something is in statements of ours. */
const ADDED: Readonly<Record<string, readonly string[]>> = {
  messages: ['outcome', 'place', 'older', 'direct', 'theirs', 'mentions', 'earliest', 'latest', 'per_lane'],
  changes: ['place', 'wanted'],
  change_positions: ['lease', 'handed'],
  conversations: ['outcome', 'participants'],
  contacts: ['outcome', 'phone', 'told'],
  jids: ['place', 'phone', 'told'],
  conversation_counts: ['place', 'n'],
  sync_pages: ['day', 'before', 'kept', 'first'],
  sync_state: ['messages', 'conversations', 'contacts', 'waited', 'now', 'starting'],
  workers: ['lease_owner'],
  verifications: ['finished', 'open'],
  quarantine: ['entry', 'times'],
};

test('columns that somebody adds are in nobody’s way', async () => {
  for (const [table, columns] of Object.entries(ADDED)) {
    // Of a type that is compared with nothing.
    const added = columns.map((column) => `add column ${column} point`).join(', ');
    await scene.database.query(`alter table whatsapp.${table} ${added}`);
  }
  await scene.upstream();
  scene.connection.injectRaw('message', (seq) => `{"message_id":"bad","seq":${seq},"body":7}`);
  await scene.replicate({ PAGE_LIMIT: '50', PAGE_LIMIT_MAX: '50' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  scene.simulator.world.applyChanges(100);
  await waitFor(scene.agrees, { what: 'the changes' });
  expect(scene.failures()).toEqual([]);
  await scene.stop();
  await scene.database.query(
    `select whatsapp.register_consumer('crm', 'now'), whatsapp.restart_consumer('crm', starting => 'start')`,
  );
  expect(await scene.database.query(`select * from whatsapp.read_changes('crm', 5)`)).toHaveLength(5);
  const found = await scene.database.query(`select s.body from whatsapp.messages m
    cross join lateral whatsapp.search_messages(substring(m.body from '[[:alnum:]]{4,}'), max => 1) s limit 1`);
  expect(found).toHaveLength(1);
  const [contact] = await scene.database.query<{ phone: string }>(
    'select phone_e164 as phone from whatsapp.contacts where phone_e164 is not null limit 1',
  );
  const env = {
    ...quickSettings(scene.database.url, scene.simulator.url),
    ...{ VERIFY_RATE: '1000', ERASURE_KEY: 'e'.repeat(32) },
  };
  for (const args of [['verify'], ['status'], ['erase', '--phone', contact!.phone, '--yes'], ['verify']]) {
    expect([args[0], (await runCommand(args, env)).status]).toEqual([args[0], 0]);
  }
  // As if it were tomorrow.
  expect(await foldLedger(scene.db, ID, -86_400_000)).toBeGreaterThan(0);
});
