import { beforeAll, describe, expect, test } from 'vitest';
import { tendIndexes } from '../../src/store/indexes.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA } from '../support/database.ts';
import { SearchScene } from './search-scene.ts';

const { database, message, write } = SearchScene.use();
beforeAll(() => tendIndexes(database.db, SCHEMA, { search: 'on' }));

describe('wa-replica search', () => {
  const search = (...args: string[]) =>
    runCommand(['search', ...args], { DATABASE_URL: database.url, CRM_DEFAULT_COUNTRY: 'DE' });

  test('a line a message, the newest first', async () => {
    const { status, stdout, stderr } = await search(
      'invoice',
      '--phone',
      '0151 12345678',
      '--connection',
      'a',
      '--before',
      '2026-10-02',
    );
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.split('\n').slice(-5)).toEqual(
      [
        '2026-10-01 00:03  a  to Anna: your invoice is paid',
        '2026-10-01 00:01  a  Anna: no invoice, a reminder of an invoice',
        '2026-10-01 00:00  a  Anna: The Invoice of October',
        '',
      ].toSpliced(0, 0, '2026-10-01 00:04  a  Anna in Friends: group invoice'),
    );
  });

  test('a long body is shown around the word, and moves no cursor', async () => {
    await write('c', [message('wide', `${'before '.repeat(80)}\u001b[2J needle ${'after '.repeat(80)}`)]);
    const { stdout } = await search('needle');
    expect(stdout).toMatch(/: ….*\uFFFD\[2J needle after .*…\n$/);
    expect(stdout.length).toBeLessThan(240);
  });

  test('a body is cut between its letters, and a short one not at all', async () => {
    const short = `${'so '.repeat(40)}brief`;
    const emoji = (odd: string) => `${odd}${'😀'.repeat(100)} thimblerig ${odd}${'😀'.repeat(100)}`;
    await write('c', [message('short', short), message('even', emoji('')), message('odd', emoji('x'))]);
    expect((await search('brief')).stdout).toContain(`: ${short}\n`);
    const { stdout } = await search('thimblerig');
    expect(stdout.match(/: …(?:😀)+ thimblerig x?(?:😀)+…\n/g)).toHaveLength(2);
    expect(stdout).not.toContain('\uFFFD');
  });

  test('operators are no words of a body', async () => {
    const body = `${'forever inside before '.repeat(40)}thimble ${'after '.repeat(80)}`;
    await write('c', [message('operators', body)]);
    for (const query of ['thimble or thread', 'thread OR thimble', 'thimble -in']) {
      expect((await search('--', query)).stdout).toMatch(/: ….*thimble after/);
    }
    expect((await search('--parts', '--', 'inside before')).stdout).toContain(': forever inside');
  });

  test('of a group it says who wrote, us too, and that it was deleted', async () => {
    const group = { conversation_id: 'group', chat_jid: '1@g.us' };
    const own = { ...group, direction: 'outgoing', sender_jid: '49@s.whatsapp.net' };
    await write('a', [
      message('own', 'zebra crossing', own),
      message('deleted', 'zebra gone', { ...group, deleted_at: '2026-10-02T00:00:00Z' }),
    ]);
    const lines = (await search('zebra')).stdout.trimEnd().split('\n');
    expect(lines.map((line) => line.slice(21))).toEqual([
      'Anna in Friends (deleted): zebra gone',
      'we in Friends: zebra crossing',
    ]);
  });

  test('parts of words, and what keeps them from being quick', async () => {
    const { status, stdout, stderr } = await search('--parts', 'ctobe');
    expect([status, stdout]).toEqual([0, expect.stringContaining('The Invoice of October')]);
    expect(stderr).toContain('SEARCH is not parts: every message is read');
  });

  test('JSON, a limit that says so, and nothing found', async () => {
    const { stdout, stderr } = await search('invoice', '--json', '--limit', '2', '--connection', 'a');
    const rows = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows).toHaveLength(2);
    expect(stderr).toBe('the newest 2: --limit or --before for more\n');
    expect(await search('nothing-like-this')).toMatchObject({
      status: 0,
      stdout: '',
      stderr: 'nothing found\n',
    });
  });

  test.each([
    [['--phone', '12', 'a'], 'CRM_DEFAULT_COUNTRY'],
    [['--phone', '0151 12345678, 030 123456', 'a'], '--phone wants one number'],
    [['--since', 'whenever', 'a'], 'a duration such as 7d is wanted'],
    [['--limit', '0', 'a'], 'a whole number from 1 to 10000 is wanted'],
    [['!!'], 'no word to look for'],
    [[], "missing required argument 'words'"],
  ])('%j is refused, and says why', async (args, why) => {
    expect(await search(...args)).toMatchObject({ status: 2, stderr: expect.stringContaining(why) });
  });

  test('without the index it says so, and finds the same', async () => {
    await tendIndexes(database.db, SCHEMA, { search: 'off' });
    const { stdout, stderr } = await search('october');
    expect(stdout).toContain('The Invoice of October');
    expect(stderr).toContain('the index is not built yet');
    const off = await runCommand(['search', 'october'], { DATABASE_URL: database.url, SEARCH: 'off' });
    expect(off.stderr).toContain('SEARCH is off');
  });
});
