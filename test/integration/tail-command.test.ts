import { once } from 'node:events';
import { createServer } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli, startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
});
afterAll(async () => {
  await simulator.close();
});

const message = (seq: number) => ({ message_id: 'm\u0007', body: `secret ${seq}`, seq });
const page = (cursor: number) =>
  applyAnswer(database.db, { cursor, messages: [message(cursor)] }, {}, 'hand');
const lines = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '');
const listeners = async () =>
  (
    await database.query(`select from pg_stat_activity
    where datname = current_database() and application_name = 'wa-replica listen'`)
  ).length;
const listening = () => waitFor(async () => (await listeners()) > 0, { what: 'the command to listen' });

test('tail prints what comes from now on, ids and no content, until Ctrl-C', async () => {
  await page(1);
  const env = { DATABASE_URL: database.url };
  const plain = startCli(['tail'], env);
  await listening();
  const json = startCli(['tail', '--json'], { ...env, LISTEN_DATABASE_URL: 'off' });
  // Nothing says that the second has begun: it is given changes until it prints one.
  let cursor = 1;
  await waitFor(
    async () => {
      await page(++cursor);
      return json.stdout.includes('\n');
    },
    { what: 'the first line', everyMs: 200 },
  );
  await waitFor(() => plain.stdout.includes(`  ${cursor}  `), { what: 'the last change' });
  expect(await listeners()).toBe(1);
  expect(await Promise.all([plain.kill('SIGINT'), json.kill('SIGTERM')])).toEqual([0, 0]);
  const numbers = lines(plain.stdout).map((line) => line.split('  ')[2]);
  expect(numbers).toEqual(numbers.map((_, at) => String(at + 2)));
  expect(lines(plain.stdout)[0]).toMatch(/^[\dTZ:.-]+ {2}hand {2}2 {2}message m\uFFFD updated {2}body$/);
  const first = JSON.parse(lines(json.stdout)[0]!) as Record<string, unknown>;
  expect(first).toEqual({
    connection_id: 'hand',
    change_no: expect.stringMatching(/^\d+$/),
    kind: 'message',
    record_id: 'm\u0007',
    op: 'updated',
    changed_fields: ['body'],
    at: expect.stringMatching(/Z$/),
  });
  for (const text of [plain.stdout, plain.stderr, json.stdout, json.stderr])
    expect(text).not.toContain('secret');
  expect(await database.query('select from whatsapp.change_consumers')).toEqual([]);
});

test('goes on after each outage, tells of it once, and of what was pruned meanwhile', async () => {
  const { hostname: host, port } = new URL(database.url);
  const proxy = await startTcpProxy({ host, port: Number(port) });
  const url = Object.assign(new URL(database.url), { hostname: '127.0.0.1', port: String(proxy.port) }).href;
  const tail = startCli(['tail'], { DATABASE_URL: url, LISTEN_DATABASE_URL: 'off', CHANGES: 'off' });
  const last = async () => {
    const rows = await database.query<{ no: string }>(
      `select last_change_no as no from whatsapp.sync_state where connection_id = 'hand'`,
    );
    return BigInt(rows[0]?.no ?? 0);
  };
  let cursor = Number(await last()) + 1000;
  const printed = (no: bigint) =>
    waitFor(() => tail.stdout.includes(`  ${no}  `), { what: `change ${no}`, deadlineMs: 30_000 });
  /** Attempts to reach the database are many meanwhile. */
  const outage = async (work: () => Promise<void>) => {
    let refused = 0;
    const refusing = createServer((socket) => {
      refused++;
      socket.destroy();
    });
    await proxy.refuse();
    await waitFor(() => once(refusing.listen(proxy.port, '127.0.0.1'), 'listening'), { what: 'the port' });
    proxy.cut();
    await waitFor(() => refused > 3, { what: 'several attempts', deadlineMs: 30_000 });
    await work();
    refusing.close();
    await proxy.heal();
  };
  try {
    await waitFor(
      async () => {
        await page(++cursor);
        return tail.stdout.includes('\n');
      },
      { what: 'the first line', everyMs: 200, deadlineMs: 20_000 },
    );
    await printed(await last());
    await outage(async () => void (await page(++cursor)));
    await printed(await last());
    let pruned = 0n;
    await outage(async () => {
      await page(++cursor);
      pruned = await last();
      await database.query('delete from whatsapp.changes where change_no = $1', [pruned]);
      await page(++cursor);
    });
    await printed(await last());
    // It comes by another pipe than what is printed.
    await waitFor(() => tail.stderr.includes(' are gone\n'), { what: 'word of what was pruned' });
    const away = expect.stringMatching(/^wa-replica: the database does not answer \(\w+\), trying again$/);
    expect(lines(tail.stderr)).toEqual([
      'wa-replica: CHANGES is off: nothing new is told',
      away,
      away,
      `wa-replica: hand: 1 changes before ${pruned + 1n} are gone`,
    ]);
    // What no waiting mends is the end.
    await database.query('alter table whatsapp.changes rename to elsewhere');
    expect(await tail.ended).toBe(1);
    expect(lines(tail.stderr).at(-2)).toContain('42P01');
  } finally {
    await database.query('alter table if exists whatsapp.elsewhere rename to changes');
    await tail.kill('SIGKILL');
    await proxy.close();
  }
});

test('as a consumer it goes on where it stood, hears the daemon, and says when it comes too late', async () => {
  const env = quickSettings(database.url, simulator.url);
  const tail = startCli(['tail', '--consumer', 'desk'], env);
  await waitFor(async () => (await database.query('select from whatsapp.change_consumers')).length > 0, {
    what: 'the consumer',
  });
  const daemon = startCli(['run'], env);
  const settled = async () =>
    (
      await database.query(`select from whatsapp.sync_state s left join whatsapp.change_positions p using (connection_id)
        where connection_id = 'conn_a' and caught_up_at is not null and s.last_change_no = p.change_no`)
    ).length > 0;
  await waitFor(settled, { what: 'the backlog' });
  expect(await tail.kill('SIGINT')).toBe(0);
  expect(tail.stderr).toContain('this consumer is new');
  const had = lines(tail.stdout).length;
  expect(had).toBeGreaterThan(20);

  simulator.world.applyChanges(30);
  const more = `select last_change_no from whatsapp.sync_state where connection_id = 'conn_a' and last_change_no > $1`;
  await waitFor(async () => (await database.query(more, [had])).length > 0, { what: 'more changes' });
  const again = startCli(['tail', '--consumer', 'desk'], env);
  await waitFor(settled, { what: 'the rest' });
  expect(await again.kill('SIGINT')).toBe(0);
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(again.stderr).toBe('');
  const numbers = [...lines(tail.stdout), ...lines(again.stdout)].map((line) => Number(line.split('  ')[2]));
  expect(numbers).toEqual(numbers.map((_, at) => at + 1));

  await database.query(`update whatsapp.change_positions set change_no = 0 where connection_id = 'conn_a'`);
  await database.query(`delete from whatsapp.changes where connection_id = 'conn_a' and change_no < 5`);
  const late = await runCli(['tail', '--consumer', 'desk'], env);
  expect(late).toMatchObject({ status: 1, stdout: '', stderr: expect.stringContaining('comes too late') });
});

test('a change that names nobody any more, since an erasure, is printed and acknowledged as any other', async () => {
  // It is not to meet the holes that others left.
  await database.query(`select whatsapp.register_consumer('late', 'now')`);
  await database.query(`insert into whatsapp.sync_state (connection_id, last_change_no) values ('blank', 1)`);
  await database.query(`insert into whatsapp.changes (connection_id, change_no, kind, op)
    values ('blank', 1, 'contact', 'deleted')`);
  const tail = startCli(['tail', '--consumer', 'late'], { DATABASE_URL: database.url });
  const acknowledged = async () =>
    (
      await database.query(`select from whatsapp.change_positions
        where consumer = 'late' and connection_id = 'blank' and change_no = 1`)
    ).length > 0;
  await waitFor(async () => (await acknowledged()) || tail.process.exitCode !== null, {
    what: 'the acknowledgement',
  });
  expect(await tail.kill('SIGINT')).toBe(0);
  expect(tail.stdout).toMatch(/ {2}blank {2}1 {2}contact – deleted\n/);
});

test('a reader that goes in the middle of a batch: nothing of it is acknowledged, and the next has it at once', async () => {
  await database.query(`select whatsapp.register_consumer('pager', 'now')`);
  // More than a pipe holds.
  await database.query(
    `insert into whatsapp.sync_state (connection_id, last_change_no) values ('long', 400)`,
  );
  await database.query(`insert into whatsapp.changes (connection_id, change_no, kind, record_id, op)
    select 'long', no, 'message', repeat('x', 2000), 'inserted' from generate_series(1, 400) no`);
  const tail = startCli(['tail', '--consumer', 'pager'], { DATABASE_URL: database.url });
  tail.process.stdout!.once('data', () => tail.process.stdout!.destroy());
  expect({ status: await tail.ended, stderr: tail.stderr }).toEqual({ status: 0, stderr: '' });
  const positions = `select change_no, leased_until from whatsapp.change_positions
    where consumer = 'pager' and connection_id = 'long'`;
  expect(await database.query(positions)).toEqual([{ change_no: '0', leased_until: null }]);
});

test('a slip makes no consumer', async () => {
  for (const name of ['', ' ', ' desk', 'a\u0007b', 'x'.repeat(101)]) {
    const { status, stderr } = await runCommand(['tail', '--consumer', name], {});
    expect([status, stderr]).toEqual([2, expect.stringContaining('a name of 1 to 100 characters is wanted')]);
  }
});
