/** One pass beside another process that holds the connection: what is made of how that fares. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ErrorKind } from '../../src/errors/errors.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { noteFailure } from '../../src/store/advance.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { makeDueUnlessLocked } from '../../src/store/due.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { catchUp } from '../../src/sync/catch-up.ts';
import { useFreshDatabase } from '../support/database.ts';
import { createReplica, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const ID = 'conn_a';
const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let replica: TestReplica;
/** Of the holder. */
let term: string;
let failures: number;

beforeEach(async () => {
  simulator = await startSimulator({ connections: [ID], messages: 1 });
  const env = { ...quickSettings(database.url, simulator.url), LEASE_TTL: '1h' };
  replica = await createReplica(env);
  replica.worker.start();
  await ensureConnections(database.db, [ID]);
  const [lease] = await claimLeases(database.db, 'holder', [ID], 3_600_000, 1);
  term = lease!.term;
  failures = 0;
});
afterEach(async () => {
  await replica.worker.stop();
  await replica.close();
  await simulator.close();
});

/** One pass, until it ends or the signal. */
function pass(signal: AbortSignal) {
  const results = catchUp(replica.worker, replica.workerOptions, [ID], { maxFailures: 5 }, signal);
  let ended = false;
  void results.finally(() => {
    ended = true;
  });
  return { results, hasEnded: () => ended };
}

const isAsked = async () =>
  (await database.query('select from whatsapp.sync_state where next_poll_at is not null')).length === 1;

/** A turn of the holder's fails, in the middle of which somebody made the connection due. */
async function failsDue(kind: ErrorKind): Promise<void> {
  await makeDueUnlessLocked(database.db, [ID]);
  const failure = {
    kind,
    message: 'of the test',
    failures: ++failures,
    begunAgo: 60_000,
    nextPollIn: 60_000,
  };
  await noteFailure(database.db, ID, term, failure);
}

test.each<[kind: ErrorKind, atLeast: number]>([
  ['timeout', 5],
  ['payment_required', 2],
])('events in the middle of every turn do not hide that each fails: %s', async (kind, atLeast) => {
  const { results, hasEnded } = pass(new AbortController().signal);
  await waitFor(isAsked, { what: 'the connection to be made due' });
  await failsDue(kind);
  await waitFor(
    async () => {
      if (!hasEnded()) await failsDue(kind);
      return hasEnded();
    },
    { what: 'the pass to give up' },
  );
  expect(failures).toBeGreaterThanOrEqual(atLeast);
  expect(await results).toMatchObject([{ caughtUp: false, byHolder: true, error: `${kind}: of the test` }]);
});

test('a holder that was heard of later than now is not taken for dead before a lease time is over', async () => {
  // The database's clock was put back: who lives says so again.
  await database.query(`insert into whatsapp.workers (worker_id, heartbeat_at) values ('holder', now() + interval '3 hours');
    update whatsapp.sync_state set lease_expires_at = now() + interval '3 hours'`);
  const ending = new AbortController();
  const { results } = pass(ending.signal);
  await waitFor(isAsked, { what: 'the connection to be made due' });
  ending.abort();
  expect(await results).toMatchObject([{ caughtUp: false, byHolder: true }]);
  expect(await database.query('select lease_owner from whatsapp.sync_state')).toEqual([
    { lease_owner: 'holder' },
  ]);
});
