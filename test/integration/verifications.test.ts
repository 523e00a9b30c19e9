/** The books of verifications: which one is gone on with, and what is kept of one. */
import { beforeEach, expect, test } from 'vitest';
import {
  emptyCounts,
  forgetVerifications,
  noteVerification,
  openVerification,
} from '../../src/store/verifications.ts';
import { useTestDatabase } from '../support/database.ts';
import { CONNECTION } from '../support/pages.ts';

const database = useTestDatabase({ migrated: true });
beforeEach(() => database.query('truncate whatsapp.verifications'));

const ORDER = { cause: 'schedule', repair: false, since: null } as const;
const AT = { stage: 'messages', conversation: 'c' };

/** @returns its number. */
async function enter(row: Record<string, unknown> = {}): Promise<string> {
  const entries = Object.entries({
    ...{ connection_id: CONNECTION, cause: 'schedule', state: 'interrupted', position: AT, requests: 7 },
    ...row,
  });
  const [entered] = await database.query<{ id: string }>(
    `insert into whatsapp.verifications (${entries.map(([name]) => name).join(', ')})
      values (${entries.map((_, at) => `$${at + 1}`).join(', ')}) returning verification_id as id`,
    entries.map(([, value]) => value),
  );
  return entered!.id;
}
const states = async () =>
  (await database.query('select state from whatsapp.verifications order by verification_id')).map(
    ({ state }) => state as string,
  );

test.each([
  ['was interrupted', {}, {}, true],
  ['has not told its end', { state: 'running' }, {}, true],
  ['was made for a gap', { cause: 'gap' }, {}, true],
  ['was of the same time', { since: '2026-11-01T00:00:00Z' }, { since: '2026-11-01T00:00:00Z' }, true],
  ['is finished', { state: 'finished' }, {}, false],
  ['failed', { state: 'failed' }, {}, false],
  ['was commanded', { cause: 'command' }, {}, false],
  ['was to repair', { repair: true }, {}, false],
  ['was not to repair', {}, { repair: true }, false],
  ['was of another time', { since: '2026-11-01T00:00:00Z' }, { since: '2026-11-02T00:00:00Z' }, false],
  ['was not of everything', { since: '2026-11-01T00:00:00Z' }, {}, false],
  ["was another connection's", { connection_id: 'another' }, {}, false],
])('one that %s is gone on with, or not', async (_, row, order, goesOn) => {
  const id = await enter(row);
  const open = await openVerification(database.db, CONNECTION, { ...ORDER, ...order }, true);
  expect(open.id === id).toBe(goesOn);
  expect((await states()).at(-1)).toBe('running');
  expect(open).toMatchObject(
    goesOn ? { position: AT, requests: 7 } : { position: { stage: 'contacts' }, requests: 0 },
  );
});

test('only the last is, whatever was commanded since, and only where that is asked for', async () => {
  await enter();
  await enter({ state: 'finished' });
  const open = () => openVerification(database.db, CONNECTION, ORDER, true);
  expect((await open()).position).toEqual({ stage: 'contacts' });
  const last = await enter();
  await enter({ cause: 'command', state: 'finished' });
  expect((await open()).id).toBe(last);
  expect((await openVerification(database.db, CONNECTION, ORDER, false)).id).not.toBe(last);
});

test('its counts go on where its place is known, and begin anew where that is forgotten', async () => {
  const { conflicting: _, ...ofBefore } = emptyCounts().contact;
  await enter({ counts: { message: { ...emptyCounts().message, checked: 5 }, contact: ofBefore } });
  const counts = { message: { ...emptyCounts().message, checked: 5 } };
  const open = async () => (await openVerification(database.db, CONNECTION, ORDER, true)).counts;
  expect(await open()).toEqual({ ...emptyCounts(), ...counts });
  await database.query('update whatsapp.verifications set position = null');
  expect(await open()).toEqual(emptyCounts());
});

test('one that has said nothing for a quarter of an hour is interrupted', async () => {
  const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000);
  await enter({ state: 'running', updated_at: ago(20) });
  await enter({ state: 'running', updated_at: ago(10) });
  await enter({ state: 'finished', updated_at: ago(20) });
  await enter({ state: 'running', updated_at: ago(20), connection_id: 'another' });
  await openVerification(database.db, CONNECTION, { ...ORDER, cause: 'command' }, false);
  expect(await states()).toEqual(['interrupted', 'running', 'finished', 'running', 'running']);
});

test('how it stands is kept in sums, and when it ended', async () => {
  const counts = emptyCounts();
  Object.assign(counts.message, {
    checked: 100,
    missing: 1,
    older: 2,
    different: 4,
    conflicting: 128,
    mended: 3,
    not_served: 8,
  });
  Object.assign(counts.contact, { checked: 10, missing: 16, ahead: 32, exempt: 64, not_served: 1 });
  let open = await openVerification(database.db, CONNECTION, ORDER, false);
  for (const [state, ended] of [
    ['running', false],
    ['failed', true],
    ['finished', true],
  ] as const) {
    const error = { kind: 'network', message: 'somewhere' };
    const note = {
      state,
      position: null,
      counts,
      requests: 9,
      ledgerProblems: 2,
      ...(state === 'failed' && { error }),
    };
    open = { ...open, notedAt: (await noteVerification(database.db, CONNECTION, open, note))! };
    const [row] = await database.query(
      'select *, finished_at is not null as ended from whatsapp.verifications',
    );
    expect(row).toMatchObject({
      ...{
        state,
        ended,
        counts,
        requests: '9',
        ledger_problems: 2,
        checked: '110',
        drift: '151',
        mended: '3',
      },
      ...{ remaining: '148', not_served: '9' },
      error_kind: state === 'failed' ? 'network' : null,
      error: state === 'failed' ? 'somewhere' : null,
    });
  }
});

test('old ones are forgotten, but for the last of everything that came to its end, well or not', async () => {
  const old = new Date(Date.now() - 11 * 86_400_000);
  const young = new Date(Date.now() - 9 * 86_400_000);
  const ids = async () =>
    (await database.query('select verification_id as id from whatsapp.verifications order by 1')).map(
      ({ id }) => id,
    );
  await enter({ state: 'failed', updated_at: old });
  await enter({ state: 'finished', updated_at: old });
  const finished = await enter({ state: 'finished', updated_at: old });
  const failed = await enter({ state: 'failed', updated_at: old });
  // Neither is what `status` shows.
  await enter({ state: 'finished', updated_at: old, since: young });
  await enter({ state: 'interrupted', updated_at: old });
  const kept = await enter({ state: 'failed', updated_at: young, since: young });
  await forgetVerifications(database.db, CONNECTION, 10);
  expect(await ids()).toEqual([finished, failed, kept]);
});
