import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { lockState, startEpoch } from '../../src/store/state.ts';
import { BESIDE, inTransaction } from '../../src/store/transaction.ts';
import { runCommand } from '../support/command.ts';
import { openTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const scene = OneConnection.use();
const EVERY_CURSOR = 9223372036854775807n;

describe('at most one automatic start per connection and hour, then `stalled` (R6)', () => {
  test('no third one either, and nothing is written meanwhile; it goes on when the upstream does', async () => {
    await scene.upstream();
    // The most hostile upstream there is: no cursor but 0 is ever good.
    scene.connection.sync.refuse = { cursor: EVERY_CURSOR, status: 410 };
    await scene.replicate();
    const stalled = () => scene.failures().filter((one) => one.startsWith('stalled')).length;
    // Told twice, it has been noted once.
    await waitFor(() => stalled() >= 2, { what: 'the stall' });
    expect(await scene.state()).toMatchObject({ epoch: 2, numbering: 2, last_error_kind: 'stalled' });
    const before = await scene.books();
    const [mark, seen] = [scene.asked.length, stalled()];
    await waitFor(() => stalled() >= seen + 4, { what: 'more attempts' });
    // It asks again and again, with the probe, and keeps what it has.
    expect(scene.since(mark).filter((what) => what === '0 50').length).toBeGreaterThanOrEqual(3);
    expect(await scene.books()).toEqual(before);
    const failed = scene.worker.events.filter((event) => event.type === 'failed').at(-1)!;
    expect(failed.error.verdict).toBe('retry');
    expect(failed.error.hint).toContain('by itself');
    scene.connection.sync.refuse = null;
    scene.simulator.world.applyChanges(30);
    await waitFor(scene.agrees, { what: 'the changes' });
    expect(await scene.state()).toMatchObject({ epoch: 2, last_error_kind: null });
  });

  test('after the hour there may be another', async () => {
    await scene.upstream();
    scene.connection.sync.refuse = { cursor: EVERY_CURSOR, status: 410 };
    await scene.replicate();
    await waitFor(async () => (await scene.state()).last_error_kind === 'stalled', { what: 'the stall' });
    for (const [minutes, epoch] of [
      [59, 2],
      [61, 3],
    ] as const) {
      await scene.database.query(
        `update whatsapp.sync_state set last_reset_at = now() - make_interval(mins => ${minutes})`,
      );
      const seen = scene.failures().length;
      await waitFor(() => scene.failures().length >= seen + 3, { what: 'more attempts' });
      expect(await scene.state()).toMatchObject({ epoch, numbering: epoch });
    }
  });

  test('lower answers count in the same hour', async () => {
    await scene.upstream();
    scene.connection.sync.ahead = 'lower';
    await scene.replicate({ RESET_CONFIRM: '0s' });
    for (const kind of ['no failure', 'stalled']) {
      await waitFor(scene.agrees, { what: 'the backlog' });
      // More changes than records: the newest seq of the new numbering is lower for certain.
      scene.simulator.world.applyChanges(2_000);
      await waitFor(scene.agrees, { what: 'the changes' });
      scene.connection.restartNumbering(1n);
      await waitFor(
        async () =>
          ((await scene.state()).last_error_kind ?? 'no failure') === kind &&
          (await scene.state()).epoch === 2,
        {
          what: kind,
        },
      );
    }
    expect(await scene.state()).toMatchObject({ epoch: 2, numbering: 2 });
  });
});

describe('a probe that is not answered says nothing (R6)', () => {
  test.each([
    [{ kind: 'internal' }, 'upstream HTTP 500'],
    [{ kind: 'rate_limited', retryAfter: 0 }, 'rate_limited HTTP 429'],
    [{ kind: 'html' }, 'protocol undefined'],
    [{ kind: 'answer', status: 409, body: '{}' }, 'not_paired HTTP 409'],
  ] as const)('%o', async (fault, failure) => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    const before = await scene.books();
    scene.simulator.faults.script({ kind: 'answer', status: 410, body: '{}' }, 1, { route: 'sync' });
    scene.simulator.faults.script(fault, 1, { route: 'sync' });
    await waitFor(() => scene.worker.told('recovered').length > 0, { what: 'the recovery' });
    expect(scene.failures()).toEqual([failure]);
    expect(await scene.books()).toEqual(before);
  });

  test('but one that is too large is a 200', async () => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    await scene.stop();
    scene.connection.restartNumbering(1n);
    scene.connection.sync.ahead = 410;
    // Fifty records weigh more; a single one does not.
    await scene.replicate({ MAX_RESPONSE_BYTES: '8KiB' });
    await waitFor(async () => (await scene.state()).epoch === 2 && (await scene.agrees()), {
      what: 'everything again',
    });
    expect(scene.failures()).toEqual([]);
  });
});

test('a resync is heeded where no page can be had at the cursor of before', async () => {
  await scene.upstream();
  await scene.replicate();
  await waitFor(scene.agrees, { what: 'the backlog' });
  scene.simulator.faults.script({ kind: 'internal' }, 100_000, { route: 'sync' });
  await waitFor(() => scene.failures().length > 0, { what: 'the failures' });
  const env = quickSettings(scene.database.url, scene.simulator.url);
  expect(await runCommand(['resync', '--connection', ID, '--yes'], env)).toMatchObject({ status: 0 });
  const mark = scene.asked.length;
  await waitFor(() => scene.since(mark).includes('0 500'), { what: 'a request from 0' });
});

test('a resync while the upstream refuses is not taken for an automatic start, and begins at 0', async () => {
  await scene.upstream();
  await scene.replicate();
  await waitFor(scene.agrees, { what: 'the backlog' });
  const body = '{"error":"no"}';
  scene.simulator.faults.script({ kind: 'answer', status: 410, body }, 100_000, { route: 'sync' });
  await waitFor(() => scene.failures().length > 0, { what: 'the refusals' });
  await scene.database.query(
    `update whatsapp.sync_state set epoch = epoch + 1, cursor = 0, epoch_reason = 'resync', next_poll_at = now()`,
  );
  scene.simulator.faults.clear();
  await waitFor(async () => (await scene.state()).cursor !== '0' && (await scene.agrees()), {
    what: 'everything again',
  });
  expect(await scene.state()).toMatchObject({ epoch: 2, numbering: 1, epoch_reason: 'resync' });
});

test('a refusal at cursor 0 says nothing of the cursor', async () => {
  await scene.upstream();
  scene.simulator.faults.script({ kind: 'answer', status: 410, body: '{}' }, 1, { route: 'sync' });
  await scene.replicate();
  await waitFor(scene.agrees, { what: 'the backlog' });
  expect(scene.failures()).toEqual(['bad_request HTTP 410']);
  expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1 });
});

test('a resync that comes before an automatic start is none of the upstream', async () => {
  await scene.upstream();
  // No poll but the one that is asked for, which would wait for the lock.
  await scene.replicate({ POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '30s' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  await waitFor(() => scene.worker.worker.health[0]!.interval > 0, { what: 'the end of the backlog' });
  const mark = scene.asked.length;
  const db = openTestDatabase(scene.database.url);
  await inTransaction(db, BESIDE, async (trx) => {
    await lockState(trx, ID);
    // At the cursor, and not at 0.
    scene.connection.sync.ahead = 410;
    scene.connection.restartNumbering(1n);
    scene.worker.worker.wake(ID);
    await waitFor(() => scene.since(mark).includes('0 50'), { what: 'the probe' });
    await startEpoch(trx, ID, 'resync', true);
  });
  await db.destroy();
  await waitFor(scene.agrees, { what: 'everything again' });
  expect(await scene.state()).toMatchObject({ epoch: 2, numbering: 2, epoch_reason: 'resync' });
  expect(scene.worker.told('epoch')).toEqual([]);
});

test('whoever has lost the lease when it would start over gives up, and writes nothing under the term of another', async () => {
  await scene.upstream();
  // The lease is trusted all along: the database's clock has been put forward, say.
  await scene.replicate({ POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '5m' });
  await waitFor(scene.agrees, { what: 'the backlog' });
  await waitFor(() => scene.worker.worker.health[0]!.interval > 0, { what: 'the end of the backlog' });
  const mark = scene.asked.length;
  await inTransaction(scene.db, BESIDE, async (trx) => {
    await lockState(trx, ID);
    scene.connection.sync.ahead = 410;
    scene.connection.restartNumbering(1n);
    scene.worker.worker.wake(ID);
    await waitFor(() => scene.since(mark).includes('0 50'), { what: 'the probe' });
    await sql`update whatsapp.sync_state set lease_owner = 'another', lease_term = lease_term + 1,
      lease_expires_at = now() + interval '4 minutes'`.execute(trx);
  });
  const before = await scene.state();
  await waitFor(() => scene.worker.told('lease_lost').length === 1, { what: 'the loop to end' });
  expect(await scene.state()).toEqual(before);
  expect(before).toMatchObject({ epoch: 1, numbering: 1, lease_owner: 'another' });
});

describe('an account that is paired again, and numbered anew, between a 409 and the look at its status', () => {
  /** Until it is asked for, there is no poll. */
  const still = { POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h', LEASE_TTL: '30s', RESET_CONFIRM: '0s' };

  /** @param back how far below the newest change the new numbering begins. */
  async function pairAgain(back: bigint): Promise<void> {
    await scene.upstream();
    await scene.replicate(still);
    await waitFor(scene.agrees, { what: 'the backlog' });
    await waitFor(() => scene.worker.worker.health[0]!.interval > 0, { what: 'the end of the backlog' });
    scene.connection.sync.ahead = 'lower';
    scene.connection.restartNumbering(scene.connection.newest - back);
    scene.connection.editMessage(scene.connection.messages[0]!, 'edited in the new numbering');
    scene.simulator.faults.script({ kind: 'answer', status: 409, body: '{}' }, 1, { route: 'sync' });
    scene.worker.worker.wake(ID);
  }

  test('starts over where its numbers are lower', async () => {
    await pairAgain(10_000n);
    await waitFor(scene.agrees, { what: 'everything again' });
    expect(await scene.state()).toMatchObject({ epoch: 2, numbering: 2 });
    expect(new Set(scene.failures())).toEqual(new Set(['protocol cursor_went_back']));
  });

  test('where they have passed the cursor nothing tells it but a verification, which mends it', async () => {
    await pairAgain(50n);
    await waitFor(async () => BigInt((await scene.state()).cursor) === scene.connection.newest, {
      what: 'the new numbering',
    });
    expect(await scene.agrees()).toBe(false);
    expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1, last_error: null });
    await scene.stop();
    const env = quickSettings(scene.database.url, scene.simulator.url);
    const verified = await runCommand(['verify'], env);
    expect(verified).toMatchObject({ status: 1, stdout: expect.stringMatching(/differ[\s\S]*older/) });
    expect(await runCommand(['verify', '--repair'], env)).toMatchObject({ status: 0 });
    expect(await scene.agrees()).toBe(true);
  });

  test('where some are lower than those stored, what differs is told, until somebody raises the numbering', async () => {
    await scene.upstream();
    const { connection } = scene;
    connection.sync.ahead = 'lower';
    const [first, edited] = connection.messages;
    connection.editMessage(edited!, 'as it is stored');
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    await scene.stop();
    const reached = connection.newest;
    connection.editMessage(edited!, 'as it is now');
    connection.restartNumbering(reached - 1_000n);
    while (connection.newest <= reached) connection.touch(first!);
    // Longer ago than lists may be behind the stream.
    await scene.database.query(`update whatsapp.messages set synced_at = now() - interval '1 day'`);
    const env = { ...quickSettings(scene.database.url, scene.simulator.url), VERIFY_RATE: '1000' };
    const verified = await runCommand(['verify', '--repair'], env);
    expect(verified).toMatchObject({
      status: 1,
      stdout: expect.stringMatching(
        /1 differ, 0 mended[\s\S]*messages: 1 conflicting, \d{3} ahead\n {2}conflicting rows claim/,
      ),
    });
    const resync = () => runCommand(['resync', '--connection', ID, '--yes'], env);
    expect([await resync(), await runCommand(['sync'], env)]).toMatchObject([{ status: 0 }, { status: 0 }]);
    expect(await scene.agrees()).toBe(false);
    await scene.database.query(
      `update whatsapp.sync_state set numbering = numbering + 1 where connection_id = $1`,
      [ID],
    );
    expect([await resync(), await runCommand(['sync'], env)]).toMatchObject([{ status: 0 }, { status: 0 }]);
    expect(await scene.agrees()).toBe(true);
    expect(await runCommand(['verify'], env)).toMatchObject({ status: 0 });
  });
});
