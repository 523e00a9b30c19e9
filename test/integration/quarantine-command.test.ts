import { beforeEach, describe, expect, test } from 'vitest';
import { MESSAGE } from '../../src/entities.ts';
import { runCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { Bench } from './raw-pages.ts';
import { refusal, useRefusal } from './refusal.ts';

const database = useTestDatabase({ migrated: true });
const bench = new Bench(database);
useRefusal(database);

const message = (message_id: string, seq: number, body: unknown) => ({
  message_id,
  conversation_id: 'c',
  seq,
  body,
});
const bodyOf = async (id: string) => (await bench.row(MESSAGE, id))?.body;

describe('the command', () => {
  const quarantine = (...args: string[]) =>
    runCommand(['quarantine', ...args], { DATABASE_URL: database.url });
  const ids = async (where: string) => (await bench.entries(where)).map((entry) => entry.quarantine_id);
  beforeEach(() => database.query('delete from whatsapp.quarantine'));

  test('what came cannot move the cursor of a terminal, in list and show', async () => {
    await bench.bring({ messages: [message('\u001b]0;x\u0007\u001b[2J', 1, 1)] });
    const [id] = await ids('true');
    const listed = await quarantine('list');
    expect(listed.stdout).toContain(' \uFFFD]0;x\uFFFD\uFFFD[2J ');
    const shown = await quarantine('show', id!);
    for (const { stdout } of [listed, shown]) expect(stdout).not.toContain('\u001b');
  });

  test('list: filtered by kind, connection and code, as a table and as JSON, the resolved ones when asked', async () => {
    await bench.bring({
      messages: [message('l1', 1, 1), message('l2', 2, 'refuse:22023'), 'null'],
      contacts: ['[]'],
      conversations: [{ conversation_id: 'l3', participants: [{}] }],
    });
    await bench.bring({ messages: [message('l1', 1, 'good')] });
    await bench.query(`insert into whatsapp.quarantine (connection_id, kind, error_code, record_sha256)
      values ('other', 'message', '22023', 'x')`);
    const listed = async (...filters: string[]) => {
      const { stdout, status, stderr } = await quarantine('list', '--json', ...filters);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const letters = stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>);
      return letters
        .map((one) => `${one.connection_id} ${one.kind} ${one.error_code} ${one.record_id}`)
        .sort();
    };
    const all = [
      'conn_test contact not_an_object null',
      'conn_test message 22023 l2',
      'conn_test message not_an_object null',
      'conn_test participant id_missing null',
      'other message 22023 null',
    ];
    expect(await listed()).toEqual(all);
    expect(await listed('--all')).toHaveLength(6);
    expect(await listed('--kind', 'participant')).toEqual([all[3]]);
    expect(await listed('--connection', 'conn_test', '--code', '22023')).toEqual([all[1]]);
    const { stdout } = await quarantine('list', '--kind', 'message');
    expect(stdout).toMatch(/l2 +22023/);
    expect(stdout).toContain('3 entries');
    expect(stdout).not.toContain('refuse');
  });

  test('list: of very many, a table shows the newest, and JSON all', async () => {
    await bench.query(`insert into whatsapp.quarantine (connection_id, kind, error_code, record_sha256, record_id,
        last_seen_at)
      select 'conn_test', 'message', 'many', i::text, i, now() - make_interval(mins => i) from generate_series(1, 1500) i`);
    const table = await quarantine('list', '--code', 'many');
    expect(table.stdout).toContain('1500 entries, the newest 1000 shown');
    const { stdout } = await quarantine('list', '--code', 'many', '--json');
    const shown = stdout.split('\n').filter(Boolean);
    expect(shown).toHaveLength(1500);
    expect(JSON.parse(shown[0]!)).toMatchObject({ record_id: '1' });
  });

  test('retry: reports each; exit 1 while one is refused still', async () => {
    await bench.bring({ messages: [message('r1', 5, 'refuse:22023'), message('r2', 5, 'refuse:22003')] });
    await bench.bring({ messages: [message('r3', 5, 3)] });
    await bench.bring({ messages: [message('r1', 9, 'newer')] });
    // As if the older one had come after it.
    await bench.query(
      `update whatsapp.quarantine set resolved_at = null, resolution = null where record_id = 'r1'`,
    );
    await refusal(database, 'off');
    const [r1, r2, r3] = await ids('true');
    const one = await quarantine('retry', r1!);
    expect(one).toMatchObject({ status: 0 });
    expect(one.stdout).toBe(`${r1}: resolved: a newer row is there\n1 retried, 0 still refused\n`);
    const rest = await quarantine('retry');
    expect(rest).toMatchObject({ status: 1, stderr: expect.stringContaining('1 of 2 cannot be stored') });
    expect(rest.stdout).toBe(
      `${r2}: resolved: inserted\n${r3}: still refused: type_mismatch: "body" is not a string\n2 retried, 1 still refused\n`,
    );
    expect(await bodyOf('r1')).toBe('newer');
    expect(await bodyOf('r2')).toBe('refuse:22003');
  });

  test.each([['retry'], ['discard', '--yes']])(
    '%s: an entry that is named and not open is no success',
    async (...how) => {
      const missing = await quarantine(...how, '999999999');
      expect(missing).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('1 of the entries named is not open'),
      });
    },
  );

  test('discard: closes what matches and keeps its JSON; asks first', async () => {
    await bench.bring({ messages: [message('d1', 1, 1), message('d2', 1, 'refuse:22023')] });
    await bench.query(`insert into whatsapp.quarantine (connection_id, kind, error_code, resolved_at, resolution)
      values ('other', 'message', '22023', now(), 'superseded')`);
    // A process, whose standard input is no terminal.
    const asked = await runCli(['quarantine', 'discard', '--code', '22023'], { DATABASE_URL: database.url });
    expect(asked).toMatchObject({ status: 2, stderr: expect.stringContaining('--yes') });
    expect((await quarantine('list', '--code', '22023')).stdout).toMatch(/\n1 entry\n$/);
    // Named twice is named.
    const [, named] = await ids('true');
    expect(await quarantine('discard', named!, named!, '--yes')).toMatchObject({
      status: 0,
      stdout: '1 discarded\n',
    });
    // Where there is nothing to discard there is nothing to ask.
    expect(await quarantine('discard', '--code', '22023')).toMatchObject({
      status: 0,
      stdout: '0 discarded\n',
    });
    expect(await bench.entries('true')).toMatchObject([
      { record_id: 'd1', resolution: null },
      { record_id: 'd2', resolution: 'discarded', bytes: expect.any(Buffer) },
    ]);
    expect(
      await bench.query(`select resolution from whatsapp.quarantine where connection_id = 'other'`),
    ).toEqual([{ resolution: 'superseded' }]);
    const [, d2] = await ids('true');
    expect((await quarantine('retry', d2!)).stdout).toBe('0 retried, 0 still refused\n');
    const show = await quarantine('show', d2!);
    expect(show.stdout).toContain('"body":"refuse:22023"');
    expect(await quarantine('show', '999999')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('999999'),
    });
    expect(await quarantine('show', 'x')).toMatchObject({ status: 2 });
  });
});
