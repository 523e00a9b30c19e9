import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Connection } from '../../src/simulator/connection.ts';
import type { Message } from '../../src/simulator/records.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { DaemonProcess, type Trap } from './daemon-process.ts';

/* Two daemons on one connection, and the one that holds it stops for longer than its lease (R15). */

const LEASE_TTL = 2_000;
const TAKEOVER = LEASE_TTL + 2_000;

let simulator: Simulator;
let connection: Connection;
const database = useFreshDatabase({ migrated: true });
const daemons: DaemonProcess[] = [];

beforeEach(async () => {
  simulator = await startSimulator({ messages: 500, connections: 1, seed: 3 });
  connection = [...simulator.world.connections.values()][0]!;
});
afterEach(async () => {
  await Promise.all(daemons.splice(0).map((daemon) => daemon.kill('SIGKILL')));
  await simulator.close();
});

function start(trap?: Trap): DaemonProcess {
  const env = {
    ...quickSettings(database.url, simulator.url),
    LEASE_TTL: `${LEASE_TTL}ms`,
    PAGE_LIMIT: '5',
    PAGE_LIMIT_MAX: '5',
  };
  const daemon = new DaemonProcess(env, trap);
  daemons.push(daemon);
  return daemon;
}

interface State {
  lease_owner: string | null;
  lease_term: string;
  cursor: string;
}

const state = async () =>
  (await database.query<State>('select lease_owner, lease_term, cursor from whatsapp.sync_state'))[0]!;
const isHeldBy = async ({ worker }: DaemonProcess) => (await state()).lease_owner === worker;
const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const inTransaction = () =>
  database.query("select from pg_stat_activity where datname = $1 and state like 'idle in transaction%'", [
    database.name,
  ]);
/** Sessions that Postgres has ended, as it does with one that is idle in a transaction for too long. */
const endedByPostgres = async () => {
  const [row] = await database.query<{ n: number }>(
    'select sessions_fatal::integer as n from pg_stat_database where datname = $1',
    [database.name],
  );
  return row!.n;
};
/** What was written and by whom, down to the versions of the rows. */
const written = async () => ({
  messages: await database.query('select message_id, seq, body, xmin from whatsapp.messages order by 1'),
  pages: await database.query('select * from whatsapp.sync_pages order by page_id'),
});

/** The first message that no page has brought yet: it is in the page that a frozen daemon has in hand. */
async function firstUnwritten(): Promise<Message> {
  const cursor = BigInt((await state()).cursor);
  const all = [...simulator.world.truth(connection.id)].filter(
    ({ kind, seq }) => kind === 'message' && seq > cursor,
  );
  all.sort((a, b) => (a.seq < b.seq ? -1 : 1));
  return connection.messageById(all[0]!.id)!;
}

async function expectTakeover(by: DaemonProcess): Promise<void> {
  await waitFor(() => isHeldBy(by), { what: 'the lease to be taken over', deadlineMs: TAKEOVER });
}

/** The frozen one lost its lease to `other`, and the row changed upstream meanwhile. */
async function expectHarmless(frozen: DaemonProcess, other: DaemonProcess, message: Message): Promise<void> {
  connection.editMessage(message, 'changed while the daemon was frozen');
  await waitFor(agrees, { what: 'the other daemon to catch up' });
  const before = { ...(await state()), ...(await written()) };
  frozen.signal('SIGCONT');
  await frozen.logged('lease lost');
  // It has lost nothing else by it: it takes part again, and holds its place in the list of workers.
  expect({ ...(await state()), ...(await written()) }).toEqual(before);
  expect(before.lease_owner).toBe(other.worker);
  await other.kill('SIGKILL');
  connection.editMessage(message, 'changed after it');
  await expectTakeover(frozen);
  await waitFor(agrees, { what: 'the daemon that was frozen to go on' });
  expect(BigInt((await state()).lease_term)).toBeGreaterThan(BigInt(before.lease_term));
  expect(await frozen.kill('SIGTERM')).toBe(0);
}

test('stopped between two pages', async () => {
  const holder = start();
  await waitFor(agrees, { what: 'the backlog' });
  const other = start();
  await other.logged('replicating');
  holder.signal('SIGSTOP');
  await waitFor(() => holder.isFrozen(), { what: 'the holder to stop' });
  await expectTakeover(other);
  await expectHarmless(holder, other, connection.messages[0]!);
});

test.each(['fetched', 'rows_written'] as const)('stopped at: %s', async (point) => {
  // Slow enough for the other daemon to be there in time.
  simulator.faults.latencyMs = 20;
  const holder = start({ point, nth: 40, signal: 'SIGSTOP' });
  await holder.logged('replicating');
  const other = start();
  await other.logged('replicating');
  await waitFor(() => holder.isFrozen(), { what: 'the holder to freeze' });
  const inHand = await firstUnwritten();
  if (point === 'rows_written') {
    // The lock that it holds ends before its lease does, by Postgres' hand: too soon to be looked at beforehand.
    const ended = async () => (await endedByPostgres()) === 1 && (await inTransaction()).length === 0;
    await waitFor(ended, { what: 'its lock to end', deadlineMs: LEASE_TTL });
  }
  await expectTakeover(other);
  simulator.faults.latencyMs = 0;
  await expectHarmless(holder, other, inHand);
});
