/** Gaps: recorded, listed, acknowledged, and verified after. */
import { beforeEach, expect, test } from 'vitest';
import { ensureConnections } from '../../src/store/connections.ts';
import { unverifiedGaps } from '../../src/store/gaps.ts';
import { noteGapAlert, readOpenGaps } from '../../src/store/window.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';

const DAY = 86_400_000;
const database = useTestDatabase({ migrated: true });

/** Of `a` two, of which one is acknowledged, and one of `b`. */
beforeEach(async () => {
  await database.query('truncate whatsapp.gaps, whatsapp.verifications');
  await database.query(`insert into whatsapp.gaps
    (connection_id, gap_id, gap_from, gap_to, recorded_at, acknowledged_at, note) overriding system value values
    ('a', 1, '2026-01-02 03:04:05Z', '2026-01-05 06:07:08Z', '2026-02-03 10:11:12Z', '2026-02-04 13:14:15Z', 'known'),
    ('b', 2, '2026-03-02 03:04:05Z', '2026-03-05 06:07:08Z', '2026-04-03 10:11:12Z', null, null),
    ('a', 3, '2026-05-02 03:04:05Z', '2026-05-05 06:07:08Z', '2026-06-03 10:11:12Z', null, null)`);
});

const gaps = (...args: string[]) => runCommand(['gaps', ...args], { DATABASE_URL: database.url });
const listed = async (...args: string[]) =>
  (await gaps('list', '--json', ...args)).stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const ids = async (...args: string[]) => (await listed(...args)).map(({ gap_id: id }) => id);

test('the open ones are listed, or all, or those of a connection', async () => {
  expect(await ids()).toEqual(['2', '3']);
  expect(await ids('--all')).toEqual(['1', '2', '3']);
  expect(await ids('--connection', 'a')).toEqual(['3']);
  expect(await ids('--connection', 'a', '--all')).toEqual(['1', '3']);
  expect((await listed('--all'))[0]).toMatchObject({
    ...{ gap_from: '2026-01-02T03:04:05.000Z', gap_to: '2026-01-05T06:07:08.000Z', found_by: 'catch_up' },
    note: 'known',
  });
  expect((await gaps('list', '--all')).stdout.split('\n').map((line) => line.trimEnd())).toEqual([
    'id  connection  lost from         to                found by  recorded          acknowledged      note',
    '1   a           2026-01-02 03:04  2026-01-05 06:07  catch_up  2026-02-03 10:11  2026-02-04 13:14  known',
    '2   b           2026-03-02 03:04  2026-03-05 06:07  catch_up  2026-04-03 10:11  –',
    '3   a           2026-05-02 03:04  2026-05-05 06:07  catch_up  2026-06-03 10:11  –',
    '',
  ]);
  await ensureConnections(database.db, ['c']);
  expect((await gaps('list', '--connection', 'c')).stdout).toBe('no gaps\n');
});

test('of several of a connection that one was told of, those that it was not are left to be told', async () => {
  await database.query(`update whatsapp.gaps set connection_id = 'a', acknowledged_at = null`);
  const { open, untold } = await readOpenGaps(database.db);
  expect([open, untold.map(({ id }) => id)]).toEqual([3, ['1', '2', '3']]);
  await noteGapAlert(database.db, untold[1]!);
  const left = await readOpenGaps(database.db);
  expect([left.open, left.untold.map(({ id }) => id)]).toEqual([3, ['1', '3']]);
});

test('those that are named are acknowledged, and nothing else; what is not open is told', async () => {
  expect(await gaps('ack', '3', '1', '99', '--note', 'asked')).toMatchObject({
    status: 1,
    stdout: '1 acknowledged\n',
    stderr: expect.stringContaining('not open: 1, 99; see `gaps list`'),
  });
  expect(await ids()).toEqual(['2']);
  expect((await listed('--all')).map(({ note }) => note)).toEqual(['known', null, 'asked']);
  expect(await gaps('ack', '2')).toMatchObject({ status: 0, stdout: '1 acknowledged\n' });
  for (const wrong of ['x', '-1', '1.5', '1234567890123456789']) {
    expect(await gaps('ack', '--', wrong)).toMatchObject({ status: 2, stdout: '' });
  }
});

test('an open gap is unverified until everything was compared that it may concern', async () => {
  const unverified = async () => (await unverifiedGaps(database.db, ['a', 'c'])).sort();
  const verified = (
    state: string,
    { at = '2026-06-04Z', cause = 'gap', since = null as string | null } = {},
  ) =>
    database.query(
      `insert into whatsapp.verifications (connection_id, state, started_at, cause, since)
        values ('a', $1, $2, $3, $4)`,
      [state, at, cause, since],
    );
  expect(await unverified()).toEqual(['a']);
  await verified('finished', { at: '2026-06-02Z' });
  await verified('interrupted');
  await verified('running');
  await verified('finished', { cause: 'command', since: '2026-06-03Z' });
  await verified('failed', { cause: 'command' });
  expect(await unverified()).toEqual(['a']);
  // It was tried: the schedule tries again.
  await verified('failed');
  expect(await unverified()).toEqual([]);
  await database.query('truncate whatsapp.verifications');
  await verified('finished', { cause: 'command' });
  expect(await unverified()).toEqual([]);
  // Recorded before the clock of the database was put back.
  await database.query(`update whatsapp.gaps set recorded_at = now() + interval '3 years'`);
  expect(await unverified()).toEqual([]);
  await database.query('truncate whatsapp.verifications');
  await database.query('update whatsapp.gaps set acknowledged_at = now()');
  expect(await unverified()).toEqual([]);
});

test('a first catch-up that comes after the window records what was forgotten since the connection is known', async () => {
  await database.query(`insert into whatsapp.connections (connection_id, discovered_at)
    values ('conn_late', now() - interval '40 days')`);
  const page = (cursor: number, has_more: boolean) =>
    applyAnswer(
      database.db,
      { cursor, has_more, messages: [{ message_id: 'm', seq: cursor }] },
      {},
      'conn_late',
    );
  expect((await page(1, true)).gap).toBeUndefined();
  const { from, to } = (await page(2, false)).gap!;
  expect(Math.round((to.getTime() - from.getTime()) / DAY)).toBe(10);
  expect((await page(3, false)).gap).toBeUndefined();
  expect(
    await database.query(`select found_by from whatsapp.gaps where connection_id = 'conn_late'`),
  ).toEqual([{ found_by: 'first_catch_up' }]);
});
