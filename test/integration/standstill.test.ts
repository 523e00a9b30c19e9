import { describe, expect, test } from 'vitest';
import { waitFor } from '../support/wait.ts';
import { ID, OneConnection } from './one-connection.ts';

const scene = OneConnection.use();

/** Answers of our own making to the next requests of the sync endpoint. */
function answer(body: string | Buffer, times = 1, status = 200): void {
  scene.simulator.faults.script({ kind: 'answer', status, body }, times, { route: 'sync' });
}
async function begin(more: Record<string, string> = {}): Promise<void> {
  await scene.upstream();
  await scene.replicate(more);
  await waitFor(scene.agrees, { what: 'the backlog' });
}
const unmoved = (records = '') => `{${records}"cursor":${scene.connection.newest},"has_more":true}`;
const recoveries = () => scene.worker.told('recovered').length;

describe('has_more with an unmoved cursor, twice running, is `stalled` (R12)', () => {
  test('once is not', async () => {
    await begin();
    const polls = scene.asked.length;
    answer(unmoved());
    await waitFor(() => scene.asked.length >= polls + 4, { what: 'more polls' });
    expect(scene.failures()).toEqual([]);
  });

  test('nor twice with a good one between', async () => {
    await begin();
    for (let round = 0; round < 3; round++) {
      const polls = scene.asked.length;
      answer(unmoved());
      await waitFor(() => scene.asked.length >= polls + 3, { what: 'a good answer between' });
    }
    expect(scene.failures()).toEqual([]);
  });

  test('it backs off like any failure, says so, and goes on by itself', async () => {
    await begin({ BACKOFF_MIN: '40ms', BACKOFF_MAX: '150ms' });
    const before = await scene.books();
    const mark = scene.asked.length;
    answer(unmoved(), 1_000);
    // A failure is noted after it was told of.
    const stalled = async () => {
      const state = await scene.state();
      return state.consecutive_failures >= 6 ? state : undefined;
    };
    const state = await waitFor(stalled, { what: 'the stall' });
    expect(state).toMatchObject({ last_error_kind: 'stalled', cursor: before.cursor, has_more: true });
    expect(state.last_error).toContain('cursor does not move');
    scene.simulator.faults.clear();
    await waitFor(() => recoveries() === 1, { what: 'the recovery' });
    // The first of them is no failure yet; each of the others is one, and is followed by its pause.
    const answers = scene.simulator.faults.struck.answer!;
    expect(scene.failures()).toEqual(new Array(answers - 1).fill('stalled undefined'));
    const failed = scene.worker.events.filter((event) => event.type === 'failed');
    for (const [index, { failures, retryIn }] of failed.entries()) {
      expect(failures).toBe(index + 1);
      expect(retryIn).toBeLessThanOrEqual(Math.min(150, 40 * 2 ** index));
      const [asked, next] = scene.asked.slice(mark + index + 1);
      expect(next!.at - asked!.at).toBeGreaterThan(retryIn - 5);
    }
    expect(await scene.books()).toEqual(before);
    expect(await scene.state()).toMatchObject({ last_error_kind: null, consecutive_failures: 0 });
    scene.simulator.world.applyChanges(20);
    await waitFor(scene.agrees, { what: 'the changes' });
  });

  test('it goes on when the upstream moves, and what such pages hold is written all the same', async () => {
    await begin();
    answer(unmoved('"messages":[{"message_id":"kept","conversation_id":"c","seq":1}],'), 3);
    await waitFor(() => scene.failures().length === 2, { what: 'the stall' });
    scene.simulator.world.applyChanges(20);
    await waitFor(() => recoveries() === 1, { what: 'the recovery' });
    await waitFor(async () => (await scene.state()).cursor === scene.connection.newest.toString(), {
      what: 'the changes',
    });
    expect(await scene.count(`whatsapp.messages where message_id = 'kept'`)).toBe(1);
    expect(await scene.count('whatsapp.sync_pages where cursor_from = cursor_to')).toBe(0);
  });

  test('a standstill from the very beginning', async () => {
    await scene.upstream();
    answer('{"cursor":0,"has_more":true}', 1_000);
    await scene.replicate();
    await waitFor(() => scene.failures().length > 3, { what: 'the stall' });
    expect((await scene.state()).caught_up_at).toBeNull();
    scene.simulator.faults.clear();
    await waitFor(scene.agrees, { what: 'the backlog' });
  });
});

test('has_more that is absent means whether the cursor moved (R11)', async () => {
  await begin();
  const polls = scene.asked.length;
  const { newest } = scene.connection;
  answer(`{"cursor":${newest}}`, 3);
  answer(`{"cursor":"${newest + 5n}"}`);
  await waitFor(async () => (await scene.state()).cursor === (newest + 5n).toString(), { what: 'the move' });
  await waitFor(() => scene.asked.length >= polls + 6, { what: 'more polls' });
  expect(scene.failures()).toEqual([]);
  const [page] = await scene.database.query('select has_more from whatsapp.sync_pages where cursor_to = $1', [
    newest + 5n,
  ]);
  expect(page).toEqual({ has_more: true });
});

describe('an answer that is no page changes nothing, is told as `protocol`, and is never passed over (R11)', () => {
  const message = '{"message_id":"from a bad page","seq":1}';
  test.each([
    ['nothing', ''],
    ['HTML', '<!doctype html><title>Login</title>'],
    ['JSON that is no object', '[]'],
    ['null', 'null'],
    ['no cursor', `{"messages":[${message}],"has_more":false}`],
    ['a null cursor', `{"messages":[${message}],"cursor":null}`],
    ['a negative cursor', `{"messages":[${message}],"cursor":-1}`],
    ['a cursor with a fraction', `{"messages":[${message}],"cursor":99.5}`],
    ['a cursor beyond int64', `{"messages":[${message}],"cursor":9223372036854775808}`],
    ['text for a cursor', `{"messages":[${message}],"cursor":"next"}`],
    ['an object for an array', `{"messages":{"0":${message}},"cursor":CURSOR}`],
    ['text for has_more', `{"messages":[${message}],"cursor":CURSOR,"has_more":"no"}`],
    ['JSON cut short', `{"messages":[${message}],"cursor":CURSOR`],
    ['JSON with more behind it', `{"messages":[${message}],"cursor":CURSOR}}`],
    ['an error under a 200', '{"error":"internal"}'],
  ])('%s', async (_, body) => {
    await begin();
    const before = await scene.books();
    const mark = scene.asked.length;
    answer(body.replace('CURSOR', (scene.connection.newest + 100n).toString()), 2);
    await waitFor(() => recoveries() === 1, { what: 'the recovery' });
    expect(scene.failures()).toEqual(['protocol undefined', 'protocol undefined']);
    expect(await scene.books()).toEqual(before);
    // Asked for again from where it stood, until it was had.
    expect(new Set(scene.since(mark))).toEqual(new Set([`${scene.connection.newest} 500`]));
  });

  test.each([
    ['truncate', 'protocol'],
    ['cut', 'network'],
    ['drop', 'network'],
    ['html', 'protocol'],
  ] as const)('a page that meets the fault %s', async (kind, told) => {
    await begin();
    scene.simulator.faults.script({ kind }, 3, { route: 'sync', connection: ID });
    scene.simulator.world.applyChanges(50);
    await waitFor(scene.agrees, { what: 'the changes' });
    expect(scene.failures().map((one) => one.split(' ')[0])).toEqual([told, told, told]);
  });

  test.each([204, 206, 302])('status %i is no page either', async (status) => {
    await begin();
    const before = await scene.books();
    answer(`{"messages":[${message}],"cursor":${scene.connection.newest + 100n}}`, 1, status);
    await waitFor(() => recoveries() === 1, { what: 'the recovery' });
    expect(scene.failures()).toEqual([`protocol HTTP ${status}`]);
    expect(await scene.books()).toEqual(before);
  });
});
