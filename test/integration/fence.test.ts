import { type Kysely, sql } from 'kysely';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Advance, advance, type LedgerEntry, noteFailure, notePoll } from '../../src/store/advance.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { claimLeases } from '../../src/store/leases.ts';
import type { Database } from '../../src/store/schema.ts';
import {
  lockState,
  type Position,
  readPosition,
  startEpoch,
  startedAutomatically,
} from '../../src/store/state.ts';
import { BESIDE, inTransaction } from '../../src/store/transaction.ts';
import { apply } from '../../src/sync/apply.ts';
import { pack } from '../../src/sync/packing.ts';
import { parsePage } from '../../src/upstream/page.ts';
import { openTestDatabase, useTestDatabase } from '../support/database.ts';
import { bodyOf, CONNECTION, contextOf } from '../support/pages.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query(
    'truncate whatsapp.messages, whatsapp.sync_state, whatsapp.sync_pages, whatsapp.connections',
  );
  await ensureConnections(database.db, [CONNECTION]);
});

const message = { message_id: 'm', conversation_id: 'c', seq: 1 };

/** How far pages came, in order. */
let reached: string[] = [];

function write(at: Position, to = 10, into = database.db, messages: readonly object[] = [message]) {
  const page = parsePage(bodyOf({ cursor: to, messages }), at.cursor);
  const timing = { requestedAt: performance.now(), nextPollIn: () => 1000 };
  reached = [];
  const context = contextOf(into, { reached: (point) => void reached.push(point) });
  return apply(context, CONNECTION, at, page, pack(page).changes, timing);
}

/** Nor was anything that had to be taken back. */
const nothingWritten = async () => {
  expect(reached).toEqual([]);
  expect(await database.query('select from whatsapp.messages')).toHaveLength(0);
  expect(await database.query('select from whatsapp.sync_pages')).toHaveLength(0);
};

describe('a page whose position is not the stored one writes nothing (R1)', () => {
  test('another has taken the lease', async () => {
    const [old] = await claimLeases(database.db, 'one', [CONNECTION], 1, 1);
    await expect
      .poll(async () => (await claimLeases(database.db, 'two', [CONNECTION], 60_000, 1)).length)
      .toBe(1);
    const { term } = (await readPosition(database.db, CONNECTION))!;
    expect(BigInt(term)).toBeGreaterThan(BigInt(old!.term));
    expect(await write(old!)).toMatchObject({ done: false, now: { term } });
    await nothingWritten();
  });

  test('another has moved the cursor', async () => {
    const at = (await readPosition(database.db, CONNECTION))!;
    await database.query('update whatsapp.sync_state set cursor = 5');
    expect(await write(at)).toMatchObject({ done: false, now: { cursor: 5n } });
    await nothingWritten();
  });

  test('another has moved it while a poll brought nothing', async () => {
    const at = (await readPosition(database.db, CONNECTION))!;
    await database.query('update whatsapp.sync_state set cursor = 5, caught_up_at = now()');
    const applied = await write(at, Number(at.cursor), database.db, []);
    expect(applied).toMatchObject({ done: false, now: { cursor: 5n } });
    await nothingWritten();
  });

  test('a resync began a new epoch', async () => {
    const at = (await readPosition(database.db, CONNECTION))!;
    await database.db.transaction().execute((trx) => startEpoch(trx, CONNECTION, 'resync', false));
    expect(await write(at)).toMatchObject({ done: false, now: { epoch: 2, cursor: 0n } });
    await nothingWritten();
  });

  test('the connection is not known any more', async () => {
    const at = (await readPosition(database.db, CONNECTION))!;
    await database.query('truncate whatsapp.sync_state');
    expect(await write(at)).toEqual({ done: false, now: undefined });
    await nothingWritten();
  });

  test('something else in its transaction moved the cursor', async () => {
    const at = (await readPosition(database.db, CONNECTION))!;
    await database.query(`
      create function whatsapp.move() returns trigger language plpgsql as $$
      begin update whatsapp.sync_state set cursor = 7; return null; end $$;
      create trigger move after insert on whatsapp.messages execute function whatsapp.move()`);
    try {
      expect(await write(at)).toMatchObject({ done: false });
    } finally {
      await database.query('drop function whatsapp.move cascade');
    }
    expect(reached).toEqual(['rows_written']);
    expect(await readPosition(database.db, CONNECTION)).toEqual(at);
    expect(await database.query('select from whatsapp.messages')).toHaveLength(0);
  });
});

const move: Advance = {
  ...{ to: 10n, requestedAgo: 0, caughtUp: true, changed: true, untold: false },
  ...{ inserted: { conversations: 0, contacts: 0, messages: 1 }, nextPollIn: 0 },
  ...{ leaseTtl: 60_000, window: 86_400_000 },
};
const entry: LedgerEntry = {
  ...{ conversations: 0, contacts: 0, messages: 1, quarantined: 0 },
  ...{ bodySha256: '', worker: 'one' },
};

describe.each([
  [
    'went well',
    async (at: Position) => {
      const it = { ...move, requestedAgo: 5_000, nextPollIn: 60_000 };
      expect(await advance(database.db, CONNECTION, at, it, entry)).not.toBe(false);
    },
  ],
  [
    'brought nothing',
    async (at: Position) => {
      await database.query('update whatsapp.sync_state set caught_up_at = now()');
      const it = { ...move, requestedAgo: 5_000, nextPollIn: 60_000 };
      expect(await notePoll(database.db, CONNECTION, at, it)).toBe(true);
    },
  ],
  [
    'failed',
    async ({ term }: Position) => {
      const it = { kind: 'network', message: '', failures: 1, begunAgo: 5_000, nextPollIn: 60_000 } as const;
      await noteFailure(database.db, CONNECTION, term, it);
    },
  ],
])('after a turn that %s,', (_, end) => {
  test.each([
    ['the time that it was due at', '-10 seconds', 60],
    ['a time that is yet to come', '30 seconds', 60],
    ['a time that somebody set while the turn ran', '-500 milliseconds', 0],
  ])('%s: %s from now becomes a poll in %d seconds', async (_, ago, seconds) => {
    await database.query(`update whatsapp.sync_state set next_poll_at = clock_timestamp() + $1::interval`, [
      ago,
    ]);
    await end((await readPosition(database.db, CONNECTION))!);
    const [state] = await database.query<{ left: number }>(
      'select extract(epoch from next_poll_at - clock_timestamp())::float8 as left from whatsapp.sync_state',
    );
    expect(Math.abs(state!.left - seconds)).toBeLessThan(5);
  });
});

test('the cursor moves by compare-and-set, whatever was looked at before', async () => {
  const at = (await readPosition(database.db, CONNECTION))!;
  for (const other of [{ epoch: 2 }, { cursor: 5n }, { term: '7' }]) {
    expect(await advance(database.db, CONNECTION, { ...at, ...other }, move, entry)).toBe(false);
  }
  expect(await database.query('select from whatsapp.sync_pages')).toHaveLength(0);
  expect(await readPosition(database.db, CONNECTION)).toEqual(at);
  expect(await advance(database.db, CONNECTION, at, move, entry)).toEqual({ gap: undefined });
  // The lease goes on with it.
  const extended = `select from whatsapp.sync_state where lease_expires_at > now() + interval '50 seconds'`;
  expect(await database.query(extended)).toHaveLength(1);
});

test('a poll that brought nothing is noted by the same, and only where the upstream has forgotten nothing', async () => {
  const row = async () => (await database.query('select * from whatsapp.sync_state'))[0];
  const at = (await readPosition(database.db, CONNECTION))!;
  const note = async (other: Partial<Position> = {}, window = move.window) => {
    const before = await row();
    const noted = await notePoll(database.db, CONNECTION, { ...at, ...other }, { ...move, window });
    if (!noted) expect(await row()).toEqual(before);
    return noted;
  };
  // It may be the first catch-up, which ends a gap, too.
  expect(await note()).toBe(false);
  await database.query(`update whatsapp.sync_state set caught_up_at = now() - interval '2 minutes'`);
  for (const other of [{ epoch: 2 }, { cursor: 5n }, { term: '7' }]) expect(await note(other)).toBe(false);
  expect(await note({}, 60_000)).toBe(false);
  expect(await note({}, 180_000)).toBe(true);
  expect(await row()).toMatchObject({ last_polled_at: expect.any(Date), cursor: '0' });
});

test('a start from 0 is due at once; one without a person counts for an hour', async () => {
  await database.query(`update whatsapp.sync_state set next_poll_at = now() + interval '1 hour',
    last_error_kind = 'network', last_error = 'somewhere', consecutive_failures = 3`);
  await startEpoch(database.db, CONNECTION, 'resync', false);
  expect(
    await database.query(`select next_poll_at <= clock_timestamp() as due, last_error_kind as kind, last_error as error,
      consecutive_failures as failures from whatsapp.sync_state`),
  ).toEqual([{ due: true, kind: null, error: null, failures: 0 }]);
  expect(await startedAutomatically(database.db, CONNECTION)).toBe(false);
  await startEpoch(database.db, CONNECTION, 'reset', true);
  expect(await startedAutomatically(database.db, CONNECTION)).toBe(true);
  for (const then of ["- interval '61 minutes'", "+ interval '2 hours'", "+ interval '3 years'"]) {
    await database.query(`update whatsapp.sync_state set last_reset_at = now() ${then}`);
    expect(await startedAutomatically(database.db, CONNECTION)).toBe(false);
  }
});

test('a failure is noted by who holds the lease', async () => {
  const failure = {
    kind: 'network',
    message: 'somewhere',
    failures: 3,
    begunAgo: 0,
    nextPollIn: 60_000,
  } as const;
  const noted = () => database.query('select last_error_kind as kind from whatsapp.sync_state');
  const { term } = (await readPosition(database.db, CONNECTION))!;
  await noteFailure(database.db, CONNECTION, '7', failure);
  expect(await noted()).toEqual([{ kind: null }]);
  await noteFailure(database.db, CONNECTION, term, failure);
  expect(await noted()).toEqual([{ kind: 'network' }]);
});

test('of two that write the same page at once, one does', async () => {
  const at = (await readPosition(database.db, CONNECTION))!;
  const results = await Promise.all([write(at), write(at), write(at)]);
  expect(results.filter((result) => result.done)).toHaveLength(1);
  expect(await database.query('select from whatsapp.sync_pages')).toHaveLength(1);
});

test('so it is where the database has another isolation for its default', async () => {
  await database.query(
    `alter database ${database.name} set default_transaction_isolation = 'repeatable read'`,
  );
  const isolated = openTestDatabase(database.url);
  try {
    const at = (await readPosition(database.db, CONNECTION))!;
    const results = await Promise.all([1, 2, 3].map(() => write(at, 10, isolated)));
    expect(results.filter((result) => result.done)).toHaveLength(1);
  } finally {
    await isolated.destroy();
    await database.query(`alter database ${database.name} reset default_transaction_isolation`);
  }
});

describe('a writer beside the pages (R22)', () => {
  test('that is stopped half-way lets the connection go', async () => {
    const [locked, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const stopped = inTransaction(database.db, { ...BESIDE, idleTimeout: 100 }, async (trx) => {
      await lockState(trx, CONNECTION);
      locked.resolve();
      // It does nothing more, as a process that was stopped.
      await held.promise;
      await lockState(trx, CONNECTION);
    });
    const ended = stopped.then(
      () => undefined,
      (error: unknown) => error,
    );
    try {
      await locked.promise;
      await waitFor(async () => (await write((await readPosition(database.db, CONNECTION))!)).done, {
        what: 'a page to be written',
      });
    } finally {
      held.resolve();
    }
    expect(await ended).toMatchObject({ code: '25P03' });
  });

  test('is such a one after a minute, or when its role has it', async () => {
    const idleIn = (db: Kysely<Database>) =>
      inTransaction(db, BESIDE, async (trx) => {
        const { rows } = await sql<{ own: string }>`
          select current_setting('idle_in_transaction_session_timeout') as own`.execute(trx);
        return rows[0]!.own;
      });
    expect(await idleIn(database.db)).toBe('1min');
    await database.db.connection().execute(async (db) => {
      await sql`set idle_in_transaction_session_timeout = '2s'`.execute(db);
      expect(await idleIn(db)).toBe('2s');
      await sql`reset idle_in_transaction_session_timeout`.execute(db);
    });
  });
});
