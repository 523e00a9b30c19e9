import { describe, expect, test } from 'vitest';
import { compareWithTruth } from '../../src/demo/compare.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { runCommand } from '../support/command.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const DAY = 86_400_000;
const scene = OneConnection.use();

/** The stored rows are those that the upstream serves now, and others beside them. */
async function holdsWhatIsServed(): Promise<boolean> {
  const truth = scene.simulator.world.truth(ID, { servedOnly: true });
  const { differences } = await compareWithTruth(scene.db, ID, truth);
  return differences.every((one) => / stored, \d+ true$/.test(one));
}

describe('the upstream starts over at a low seq: a new epoch and numbering, and nothing is lost (R6)', () => {
  test.each(['lower', 400, 409, 410] as const)('told by %s', async (ahead) => {
    await scene.upstream();
    await scene.replicate({ RESET_CONFIRM: '300ms' });
    const { events } = scene.worker;
    await waitFor(scene.agrees, { what: 'the backlog' });
    const before = await scene.count('whatsapp.messages');
    const old = scene.connection.newest;
    // What the window has passed is not in the new numbering; what was changed before it and after is.
    scene.simulator.world.advance(10 * DAY);
    const young = scene.connection.messages.filter((message) => scene.connection.served(message));
    scene.connection.sync.ahead = ahead;
    scene.connection.restartNumbering(1n);
    scene.connection.editMessage(young[0]!, 'edited in the new numbering');
    scene.connection.addMessage({ conversation: scene.connection.conversations[0]!, body: 'new' });
    const since = scene.asked.length;
    await waitFor(async () => BigInt((await scene.state()).cursor) === scene.connection.newest, {
      what: 'the new numbering',
    });
    expect(await scene.state()).toMatchObject({
      epoch: 2,
      numbering: 2,
      epoch_reason: 'reset',
      last_error: null,
    });
    expect(await holdsWhatIsServed()).toBe(true);
    expect(await scene.count('whatsapp.messages')).toBe(before + 1);
    expect(await scene.count('whatsapp.messages where numbering = 2')).toBe(young.length + 1);
    expect(await scene.count('whatsapp.messages where numbering = 1')).toBe(before - young.length);
    expect(events.filter((event) => event.type === 'epoch')).toHaveLength(1);
    expect(
      await scene.database.query(
        'select distinct epoch, numbering, cursor_from from whatsapp.sync_pages where cursor_from = 0 order by 1',
      ),
    ).toEqual([
      { epoch: 1, numbering: 1, cursor_from: '0' },
      { epoch: 2, numbering: 2, cursor_from: '0' },
    ]);
    const doubted = scene.asked.slice(since).map(({ what }) => what);
    const cursor = doubted.slice(doubted.indexOf(`${old} 500`), doubted.indexOf('0 500') + 1);
    const expected = {
      400: [...[500, 250, 125, 62, 50].map((limit) => `${old} ${limit}`), '0 50', '0 500'],
      409: [`${old} 500`, 'status', '0 50', `${old} 50`, '0 500'],
      410: [`${old} 500`, '0 50', '0 500'],
      lower: undefined,
    }[ahead];
    if (expected !== undefined) expect(cursor).toEqual(expected);
  });

  test('lower answers begin a new epoch after three of them, and not before RESET_CONFIRM is over', async () => {
    await scene.upstream();
    await scene.replicate({ RESET_CONFIRM: '700ms' });
    await waitFor(scene.agrees, { what: 'the backlog' });
    scene.connection.sync.ahead = 'lower';
    scene.connection.restartNumbering(1n);
    const since = scene.asked.length;
    const old = (await scene.state()).cursor;
    await waitFor(async () => (await scene.state()).epoch === 2, { what: 'the new epoch' });
    await waitFor(() => scene.since(since).includes('0 500'), { what: 'the fetch from 0' });
    const lower = scene.asked.slice(since, since + scene.since(since).indexOf('0 500'));
    expect(new Set(lower.map(({ what }) => what))).toEqual(new Set([`${old} 500`]));
    expect(lower.length).toBeGreaterThanOrEqual(3);
    expect(scene.asked[since + lower.length]!.at - lower[0]!.at).toBeGreaterThan(690);
    expect(new Set(scene.failures())).toEqual(new Set(['protocol cursor_went_back']));
  });

  test('three answers are needed even where RESET_CONFIRM is over', async () => {
    await scene.upstream();
    await scene.replicate({ RESET_CONFIRM: '0s' });
    await waitFor(scene.agrees, { what: 'the backlog' });
    // Two, then a good one, then two again, more than three in all.
    for (let round = 1; round <= 2; round++) {
      scene.connection.sync.stale = { times: 2, by: 20n };
      await waitFor(
        () => scene.failures().length === 2 * round && scene.worker.told('recovered').length === round,
        {
          what: 'two lower answers and a good one',
        },
      );
    }
    expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1 });
    scene.connection.sync.stale = { times: 3, by: 20n };
    await waitFor(async () => (await scene.state()).epoch === 2, { what: 'the new epoch' });
    await waitFor(scene.agrees, { what: 'everything again' });
  });

  test('a resync does not hide it, whether lower answers were seen before or not', async () => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    await scene.stop();
    scene.connection.sync.ahead = 'lower';
    scene.connection.restartNumbering(1n);
    scene.connection.editMessage(scene.connection.messages[0]!, 'edited in the new numbering');
    const env = quickSettings(scene.database.url, scene.simulator.url);
    expect(await runCommand(['resync', '--connection', ID, '--yes'], env)).toMatchObject({ status: 0 });
    await scene.replicate({ RESET_CONFIRM: '300ms' });
    await waitFor(scene.agrees, { what: 'the new numbering' });
    expect(await scene.state()).toMatchObject({ epoch: 3, numbering: 2, epoch_reason: 'reset' });
    expect(new Set(scene.failures())).toEqual(new Set(['protocol cursor_went_back']));
    // Another resync ends where this one did.
    expect(await runCommand(['resync', '--connection', ID, '--yes'], env)).toMatchObject({ status: 0 });
    const seen = scene.failures().length;
    await waitFor(async () => (await scene.state()).cursor === `${scene.connection.newest}`, {
      what: 'the end',
    });
    expect(await scene.state()).toMatchObject({ epoch: 4, numbering: 2, epoch_reason: 'resync' });
    expect(scene.failures()).toHaveLength(seen);
  });

  test('lagging answers only look like it: they are not applied, and nothing changes', async () => {
    await scene.upstream();
    await scene.replicate({ RESET_CONFIRM: '1h' });
    await waitFor(scene.agrees, { what: 'the backlog' });
    const before = await scene.books();
    scene.connection.sync.stale = { times: 5, by: 50n };
    await waitFor(() => scene.worker.told('recovered').length > 0, { what: 'the recovery' });
    expect(scene.failures()).toEqual(new Array(5).fill('protocol cursor_went_back'));
    expect(await scene.books()).toEqual(before);
  });
});

describe('a refusal is explained before anything is done about it (R6)', () => {
  test('400 for the limit: halved down to 50, remembered for the key, and no new epoch', async () => {
    await scene.upstream({ limitMax: 50, overLimit: 'refuse', connections: [ID, 'conn_b'], messages: 3_000 });
    await scene.replicate();
    const limits = () =>
      scene.asked.flatMap(({ what }) => (/^\d+ (\d+)$/.exec(what) ? [Number(what.split(' ')[1])] : []));
    const first = async () => (await scene.state()).caught_up_at !== null;
    await waitFor(first, { what: 'the first connection' });
    expect(limits().slice(0, 5)).toEqual([500, 250, 125, 62, 50]);
    // Ten good pages would double it, if the key's bound were not known.
    expect(limits().length).toBeGreaterThan(20);
    expect(new Set(limits().slice(4))).toEqual(new Set([50]));
    scene.worker.directory.assume(['conn_b']);
    await ensureConnections(scene.db, ['conn_b']);
    await waitFor(scene.agrees, { what: 'the second connection' });
    expect(new Set(limits().slice(4))).toEqual(new Set([50]));
    expect(scene.failures()).toEqual([]);
    expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1 });
  });

  test('400 for a missing header: parked with what to do, and no new epoch; the limit is not to blame', async () => {
    await scene.upstream({ connections: [ID, 'conn_b'] });
    await ensureConnections(scene.db, ['default']);
    await scene.database.query(`update whatsapp.sync_state set cursor = 5`);
    await scene.replicate({ WHATSAPP_USE_CONNECTION_IDS: 'default' });
    await waitFor(() => scene.failures().length >= 2, { what: 'the refusals' });
    expect(scene.failures()[0]).toBe('bad_request HTTP 400');
    const [failed] = scene.worker.events.filter((event) => event.type === 'failed');
    expect(failed!.error.verdict).toBe('park');
    expect(failed!.error.hint).toContain('WHATSAPP_USE_CONNECTION_IDS');
    expect(scene.asked.slice(0, 8).map(({ what }) => what)).toEqual([
      // by the look-up
      'status',
      ...[500, 250, 125, 62, 50].map((limit) => `5 ${limit}`),
      ...['0 50', '5 500'],
    ]);
    expect(await scene.state('default')).toMatchObject({
      epoch: 1,
      cursor: '5',
      last_error_kind: 'bad_request',
    });
    expect(await scene.count('whatsapp.messages')).toBe(0);
    // The key reaches one connection alone now, so that none has to be named.
    for (const key of scene.simulator.world.keys.values()) key.connectionIds = [ID];
    await waitFor(async () => (await scene.state('default')).caught_up_at !== null, { what: 'the recovery' });
    expect(scene.asked.find(({ status }) => status === 200)!.what).toBe('5 500');
  });

  test('409 of an account that is not paired: parked, and told in the tables', async () => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    scene.connection.state.paired = false;
    const since = scene.asked.length;
    await waitFor(() => scene.failures().length >= 2, { what: 'the refusals' });
    expect(scene.failures()[0]).toBe('not_paired HTTP 409');
    expect(scene.asked.slice(since).some(({ what }) => what.startsWith('0 '))).toBe(false);
    expect(await scene.state()).toMatchObject({ epoch: 1, last_error_kind: 'not_paired' });
    const pairing = () => scene.database.query('select paired, jid from whatsapp.connections');
    expect(await pairing()).toEqual([{ paired: false, jid: null }]);
    scene.connection.state.paired = true;
    scene.simulator.world.applyChanges(20);
    await waitFor(scene.agrees, { what: 'the changes' });
    expect(await scene.state()).toMatchObject({ epoch: 1, last_error_kind: null });
  });

  test('409 of an account that is paired again by the time that it is looked at: nothing starts over', async () => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    const body = '{"error":"not paired"}';
    // Nor the next time, once all has been well.
    for (let time = 1; time <= 2; time++) {
      const mark = scene.asked.length;
      scene.simulator.faults.script({ kind: 'answer', status: 409, body }, 1, { route: 'sync' });
      scene.simulator.world.applyChanges(20);
      await waitFor(scene.agrees, { what: 'the changes' });
      expect(scene.since(mark)).toContain('0 50');
    }
    expect(scene.failures()).toEqual([]);
    expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1 });
  });

  test('409 again and again, which is over whenever it is looked at, parks all the same', async () => {
    await scene.upstream();
    await scene.replicate();
    await waitFor(scene.agrees, { what: 'the backlog' });
    const refuse = () =>
      scene.simulator.faults.script({ kind: 'answer', status: 409, body: '{}' }, 1, { route: 'sync' });
    const note = scene.simulator.stats.onRequest!;
    scene.simulator.stats.onRequest = (entry) => {
      note(entry);
      // The second look, at the cursor itself.
      if (/^[1-9]\d* 50$/.test(scene.asked.at(-1)!.what)) refuse();
    };
    refuse();
    await waitFor(() => scene.failures().length > 0, { what: 'the failure' });
    expect(scene.failures()[0]).toBe('not_paired HTTP 409');
    expect(await scene.state()).toMatchObject({ epoch: 1, numbering: 1 });
  });

  test.each([400, 409, 410] as const)(
    '%s at every cursor: parked, and the probe at 0 writes nothing',
    async (status) => {
      await scene.upstream();
      await scene.replicate();
      await waitFor(scene.agrees, { what: 'the backlog' });
      const before = await scene.books();
      const body = '{"error":"no"}';
      scene.simulator.faults.script({ kind: 'answer', status, body }, 1000, { route: 'sync' });
      await waitFor(() => scene.failures().length >= 2, { what: 'the refusals' });
      expect(scene.asked.filter(({ what }) => what === '0 50').length).toBeGreaterThanOrEqual(1);
      expect(new Set(scene.failures())).toEqual(
        new Set([`${status === 409 ? 'not_paired' : 'bad_request'} HTTP ${status}`]),
      );
      expect(await scene.books()).toEqual(before);
      scene.simulator.faults.clear();
      await waitFor(async () => (await scene.state()).last_error_kind === null, { what: 'the recovery' });
    },
  );
});
