/** Row-level security on our tables: what is hidden from whoever writes is no error there, so nobody writes then. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { requireSight } from '../../src/store/row-security.ts';
import { runCommand } from '../support/command.ts';
import { useDaemons } from '../support/daemons.ts';
import { openTestDatabase, SCHEMA } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { Doctor } from './doctor.ts';

const doctor = Doctor.use();
const { database, urlWith, examine } = doctor;
/** It writes, and neither owns the tables nor is a superuser. */
let role: string;
let url: string;

beforeEach(async (context) => {
  const [me] = await database.query<{ may: boolean }>(
    'select rolsuper as may from pg_roles where rolname = current_user',
  );
  context.skip(me?.may !== true, 'this role may not make one with BYPASSRLS');
  role = `wa_test_${randomBytes(4).toString('hex')}`;
  await database.query(`create role ${role} login password 'of-the-role'`);
  await database.query(`grant usage on schema ${SCHEMA} to ${role}`);
  await database.query(`grant select, insert, update, delete on all tables in schema ${SCHEMA} to ${role}`);
  url = urlWith({ username: role, password: 'of-the-role' });
});
const daemons = useDaemons(() => ({
  ...quickSettings(url, doctor.simulator.url),
  MIGRATE_ON_START: 'false',
  ERASURE_KEY,
}));
afterEach(async () => {
  await daemons.stopAll();
  await database.query(`drop owned by ${role} cascade`);
  await database.query(`drop role ${role}`);
});

const ERASURE_KEY = '0123456789abcdef0123456789abcdef';
const secure = (table: string) => database.query(`alter table ${SCHEMA}.${table} enable row level security`);

async function seesEverything(): Promise<boolean> {
  const db = openTestDatabase(url);
  try {
    await requireSight(db, SCHEMA);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ kind: 'database_unfit' });
    return false;
  } finally {
    await db.destroy();
  }
}

test('nobody writes past suppressions that are hidden from them', async () => {
  const env = { ...quickSettings(url, doctor.simulator.url), MIGRATE_ON_START: 'false', ERASURE_KEY };
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  const [contact] = await database.query<{ phone: string }>(
    `select phone_e164 as phone from ${SCHEMA}.contacts where phone_e164 is not null limit 1`,
  );
  const erase = ['erase', '--phone', contact!.phone, '--yes'];
  expect(await runCommand(erase, env)).toMatchObject({ status: 0 });
  await secure('suppressions');
  await secure('erasures');
  await database.query(`update ${SCHEMA}.sync_state set cursor = 0, epoch = epoch + 1`);

  const what = `row-level security may hide rows of erasures, suppressions from ${role}`;
  for (const command of [['sync'], erase, ['verify']]) {
    const { status, stderr } = await runCommand(command, env);
    expect([status, stderr], command[0]).toEqual([1, expect.stringContaining(`database_unfit: ${what}`)]);
  }
  const { lines } = await examine(url, { ERASURE_KEY });
  expect(lines).toContain(`✗ rows: ${what}`);

  // As doctor says.
  await database.query(`alter role ${role} bypassrls`);
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  const back = `select from ${SCHEMA}.contacts where phone_e164 = $1`;
  expect(await database.query(back, [contact!.phone])).toEqual([]);
});

test.each([
  ['for the role', ['to ROLE using (true)'], true],
  ['for everybody', ['using (true)'], true],
  ['for another', ['to pg_monitor using (true)'], false],
  ['of some rows', ['to ROLE using (is_record)'], false],
  ['that refuses some rows', ['to ROLE using (true) with check (is_record)'], false],
  ['for reading', ['for select to ROLE using (true)'], false],
  [
    'for one command each',
    [
      ...['for select to ROLE using (true)', 'for insert to ROLE with check (true)'],
      ...['for update to ROLE using (true)', 'for delete to ROLE using (true)'],
    ],
    true,
  ],
  ['and one that restricts it', ['using (true)', 'as restrictive to ROLE using (is_record)'], false],
  [
    'and one that restricts another',
    ['using (true)', 'as restrictive to pg_monitor using (is_record)'],
    true,
  ],
])('a policy %s', async (_, policies, sees) => {
  await secure('suppressions');
  for (const [at, policy] of policies.entries()) {
    await database.query(`create policy p${at} on ${SCHEMA}.suppressions ${policy.replaceAll('ROLE', role)}`);
  }
  expect(await seesEverything()).toBe(sees);
});

test('the owner sees everything until it is forced', async () => {
  await database.query(`alter table ${SCHEMA}.suppressions owner to ${role}`);
  await secure('suppressions');
  expect(await seesEverything()).toBe(true);
  await database.query(`alter table ${SCHEMA}.suppressions force row level security`);
  expect(await seesEverything()).toBe(false);
});

test('a daemon that runs ends once rows are hidden from it', async () => {
  const daemon = daemons.start();
  const agrees = async () => (await differencesFromTruth(database.db, doctor.simulator)).length === 0;
  await waitFor(agrees, { what: 'the tables to equal the truth' });
  await secure('messages');
  // Its pages are refused from now on.
  await waitFor(
    () => {
      doctor.simulator.world.applyChanges(5);
      return daemon.stderr.includes('"msg":"rows are hidden"');
    },
    { what: 'the daemon to notice' },
  );
  expect(await daemon.ended).toBe(1);
  expect(daemon.stderr).toMatch(
    /"kind":"database_unfit","error":"row-level security may hide rows of messages from /,
  );
});
