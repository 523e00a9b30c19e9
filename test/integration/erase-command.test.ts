/** `wa-replica erase` as people use it: refusals, the preview, the receipt, files and links, and the key from then on. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { ReplicaError } from '../../src/errors/errors.ts';
import { OWNER_FILE } from '../../src/media/owner.ts';
import { expireMessages } from '../../src/sync/retention.ts';
import { startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { dump, traces } from '../support/dump.ts';
import { CONNECTION, contextOf } from '../support/pages.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { bring, database, db, EVE, HERS, PHONE, useDatabase, world } from './erasure-world.ts';

useDatabase();
const scratch = mkdtempSync(path.join(tmpdir(), 'wa-replica-erase-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const KEY = 'a key of the tests that nobody guesses';
const env = (more: Record<string, string> = {}) => ({
  // Nothing listens there.
  ...quickSettings(database.url, 'http://127.0.0.1:9'),
  ERASURE_KEY: KEY,
  MEDIA_STORE: pathToFileURL(scratch).href,
  ...more,
});
const run = (args: string[], more: Record<string, string> = {}) => runCommand(args, env(more));
const without = (name: string) => {
  const { [name]: _, ...rest } = env() as Record<string, string>;
  return rest;
};

/** A file of the archive, of these messages. */
async function attach(name: string, ...messages: string[]): Promise<string> {
  const file = path.join(scratch, 'ab', 'cd', `abcd${name.padEnd(60, '0')}.jpg`);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, 'HERWORD in a picture');
  writeFileSync(path.join(scratch, OWNER_FILE), '');
  for (const id of messages) {
    await database.query(
      `insert into whatsapp.media (connection_id, message_id, state, location) values ($1, $2, 'stored', $3)`,
      [CONNECTION, id, pathToFileURL(file).href],
    );
  }
  return file;
}

/** The rows of the table, of a preview or a receipt. */
const countsIn = (text: string) => text.match(/^\w.* {2}\d+$/gm);

beforeEach(async () => {
  await bring(world());
});

test('the preview names whom it means and removes nothing; --yes does it, and tells numbers alone', async () => {
  const before = await dump(database);
  const preview = await run(['erase', '--phone', `+${PHONE.slice(0, 4)} ${PHONE.slice(4)}`]);
  expect(preview).toMatchObject({ status: 0, stderr: '' });
  expect(preview.stdout).toContain(`Known as\n  ${EVE.phone}\n  ${EVE.lid}\n  ${CONNECTION} ${EVE.id}\n`);
  expect(preview.stdout).toMatch(/messages removed +2\n/);
  expect(preview.stdout).toContain('Nothing was removed: add --yes to do it.');
  expect(preview.stdout).toContain('set it for every daemon');
  expect(await dump(database)).toEqual(before);

  const done = await run(['erase', '--phone', `+${PHONE}`, '--yes']);
  expect(done).toMatchObject({ status: 0, stderr: '' });
  expect(done.stdout).toMatch(/^erasure 1, \d{4}-\d\d-\d\dT/);
  // What is foreseen is what is done.
  expect(countsIn(done.stdout)).toHaveLength(11);
  expect(countsIn(done.stdout)).toEqual(countsIn(preview.stdout));
  for (const name of HERS) expect(done.stdout).not.toContain(name);
  expect(traces(await dump(database), HERS)).toEqual([]);
  const [receipt] = await database.query('select connection_id, forever, counts from whatsapp.erasures');
  expect(receipt).toMatchObject({ connection_id: '', forever: false, counts: { messages: 2, contacts: 1 } });

  // Whoever writes has the key by now.
  expect((await run(['erase', '--phone', `+${PHONE}`])).stdout).not.toContain('set it for every daemon');
  // Once more is no mistake: what came since, and was not stored yet, is from before it too.
  const again = await run(['erase', '--phone', `+${PHONE}`, '--yes']);
  expect(again).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^erasure 2, [\s\S]*Nothing of them is here/),
  });
});

test.each([-6, 6])('is refused while the clock of Postgres is off by %i minutes', async (minutes) => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - minutes * 60_000 });
  onTestFinished(() => void vi.useRealTimers());
  for (const done of [[], ['--yes']]) {
    const { status, stdout, stderr } = await run(['erase', '--phone', `+${PHONE}`, ...done]);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/clock of Postgres is .* away .*NTP/);
  }
  expect(await database.query('select from whatsapp.erasures')).toEqual([]);
});

test('one that is killed lets go of all that it has locked, whatever it was at', async () => {
  await database.query(`
    create function slowly() returns trigger language plpgsql as 'begin perform pg_sleep(600); return old; end';
    create trigger slowly before delete on whatsapp.contacts for each row execute function slowly()`);
  const erasing = startCli(['erase', '--phone', `+${PHONE}`, '--yes'], env());
  const sleeping = () =>
    database.query(
      `select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
    );
  await waitFor(async () => (await sleeping()).length > 0, { what: 'it to remove the contact' });
  await erasing.kill('SIGKILL');
  await waitFor(async () => (await sleeping()).length === 0, { what: 'the server to notice' });
  expect(await database.query('select from whatsapp.erasures')).toEqual([]);
});

test('files go with the last message that has them, and links with the number; neither comes back', async () => {
  const query = `select 'crm7', '+${PHONE}' union all select 'crm8', '+4915100000002'`;
  const crm = { CRM_CONTACTS_QUERY: query };
  expect(await run(['link'], crm)).toMatchObject({ status: 0 });
  const hers = await attach('00', 'm_group');
  const shared = await attach('01', 'm_in', 'm_bob');
  const preview = await run(['erase', '--phone', `+${PHONE}`]);
  const done = await run(['erase', '--phone', `+${PHONE}`, '--yes']);
  expect(countsIn(preview.stdout)).toEqual(countsIn(done.stdout));
  expect(done).toMatchObject({ status: 0 });
  expect(done.stdout).toMatch(/attachments +2\n/);
  expect(done.stdout).toMatch(/links to contacts of the CRM +1\n/);
  expect([existsSync(hers), existsSync(shared)]).toEqual([false, true]);
  expect(await database.query('select message_id from whatsapp.media')).toEqual([{ message_id: 'm_bob' }]);
  expect(await run(['link'], crm)).toMatchObject({ status: 0 });
  expect(await database.query('select crm_id from whatsapp.crm_links')).toEqual([{ crm_id: 'crm8' }]);
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('a number that the CRM has in its other form is not linked either', async () => {
  const old = '+551187654321';
  const crm = { CRM_CONTACTS_QUERY: `select 'crm7', '${old}' union all select 'crm8', '+4915100000002'` };
  expect(await run(['link'], crm)).toMatchObject({ status: 0 });
  const links = () => database.query('select crm_id, phone_e164 from whatsapp.crm_links order by 1');
  expect(await links()).toHaveLength(2);
  const done = await run(['erase', '--phone', '+5511987654321', '--forever', '--yes']);
  // What changes is what comes from now on.
  expect(done).toMatchObject({ status: 0, stdout: expect.not.stringContaining('Nothing of them is here') });
  expect(await run(['link'], crm)).toMatchObject({ status: 0 });
  expect(await links()).toEqual([{ crm_id: 'crm8', phone_e164: '+4915100000002' }]);
});

test('files that cannot be removed are told of, and the erasure is done', async () => {
  const hers = await attach('00', 'm_group');
  const done = await run(['erase', '--phone', `+${PHONE}`, '--yes'], { MEDIA_STORE: 'off' });
  expect(done.status).toBe(1);
  expect(done.stderr).toContain('1 files are left in the archive: MEDIA_STORE is off');
  expect(existsSync(hers)).toBe(true);
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('files on a disk that is not mounted do not pass for removed', async () => {
  await attach('00', 'm_group');
  rmSync(path.join(scratch, OWNER_FILE));
  const done = await run(['erase', '--phone', `+${PHONE}`, '--yes']);
  expect(done.status).toBe(1);
  expect(done.stderr).toContain('files are left in the archive (media_store: ');
});

test('files in an earlier store are named, for nothing else knows of them then', async () => {
  const hers = await attach('00', 'm_group');
  const MEDIA_STORE = pathToFileURL(`${hers}.elsewhere`).href;
  const done = await run(['erase', '--phone', `+${PHONE}`, '--yes'], { MEDIA_STORE });
  expect(done.status).toBe(1);
  expect(done.stderr).toContain(`remove them by hand\n  ${pathToFileURL(hers).href}\n`);
  expect(existsSync(hers)).toBe(true);
  expect(traces(await dump(database), HERS)).toEqual([]);
});

test('messages that are too old take their files along', async () => {
  await database.query(
    `update whatsapp.messages set sent_at = now() - interval '61 days' where message_id = 'm_bob'`,
  );
  const file = await attach('02', 'm_bob');
  const files: string[] = [];
  const removeFiles = async (some: readonly string[]) => files.push(...some);
  const context = { db, limits: contextOf(db).limits, retain: 60 * 86_400_000, changes: true, removeFiles };
  expect(await expireMessages(context, new AbortController().signal)).toBe(1);
  expect(files.map((one) => fileURLToPath(one))).toEqual([file]);
});

test('an archive that is away keeps no message that is too old', async () => {
  await database.query(
    `update whatsapp.messages set sent_at = now() - interval '61 days' where message_id in ('m_bob', 'm_plain')`,
  );
  await attach('03', 'm_bob');
  await attach('04', 'm_plain');
  const removeFiles = async () => {
    throw new ReplicaError('media_store', { where: 'removing an attachment', code: 'EIO' });
  };
  const context = { db, limits: contextOf(db).limits, retain: 60 * 86_400_000, changes: true, removeFiles };
  const expiring = expireMessages(context, new AbortController().signal, 1);
  await expect(expiring).rejects.toMatchObject({ kind: 'media_store' });
  const left = `select 1 from whatsapp.messages where message_id in ('m_bob', 'm_plain')`;
  expect(await database.query(left)).toEqual([]);
});

describe('refused', () => {
  test.each([
    [['erase'], 2, 'either --phone or --person is wanted'],
    [['erase', '--phone', '+4915100000001', '--person', 'x'], 2, 'either --phone or --person is wanted'],
    [['erase', '--phone', '0151 00000001'], 2, 'a number in E.164 is wanted'],
    [['erase', '--phone', '4915100000001'], 2, 'a number in E.164 is wanted'],
    [['erase', '--person', ' '], 2, '--person is empty'],
    [
      ['erase', '--phone', '+4915100000077', '--yes'],
      1,
      'nobody with this number is known here; with --forever',
    ],
    [['erase', '--person', 'per_nobody', '--yes'], 1, 'nobody with this id is known here'],
    [['erase', '--person', 'per_eve', '--connection', 'conn_no'], 1, 'no connection conn_no is known here'],
  ])('%j', async (args, status, message) => {
    const refused = await run(args);
    expect(refused.status).toBe(status);
    expect(refused.stderr).toContain(message);
    expect(refused.stderr).not.toContain('4915100000077');
    expect(await database.query('select 1 from whatsapp.erasures')).toEqual([]);
  });

  test('without a key, and with one that can be guessed', async () => {
    const none = await runCommand(['erase', '--phone', `+${PHONE}`, '--yes'], without('ERASURE_KEY'));
    expect(none).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('ERASURE_KEY is not set: draw one'),
    });
    const short = await run(['erase', '--phone', `+${PHONE}`, '--yes'], { ERASURE_KEY: 'secret' });
    expect(short).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('ERASURE_KEY wants at least 32 characters'),
    });
    expect(short.stderr).not.toContain("'secret'");
    expect(await database.query('select 1 from whatsapp.erasures')).toEqual([]);
  });

  test('from then on, whatever writes without the key or with another', async () => {
    expect(await run(['erase', '--phone', `+${PHONE}`, '--yes'])).toMatchObject({ status: 0 });
    const other = { ...env(), ERASURE_KEY: 'another key of the tests, as good as it' };
    const crm = { CRM_CONTACTS_QUERY: `select 'crm7', '+${PHONE}'` };
    for (const args of [['run'], ['sync'], ['verify'], ['quarantine', 'retry'], ['link']]) {
      const none = await runCommand(args, { ...without('ERASURE_KEY'), ...crm });
      expect(none, args[0]).toMatchObject({
        status: 2,
        stderr: expect.stringContaining('ERASURE_KEY is not set, and people were erased here'),
      });
      const wrong = await runCommand(args, { ...other, ...crm });
      expect(wrong, args[0]).toMatchObject({
        status: 2,
        stderr: expect.stringContaining('ERASURE_KEY is not the key that people were erased with'),
      });
    }
    const again = await runCommand(['erase', '--person', 'per_bob', '--yes'], other);
    expect(again).toMatchObject({ status: 2, stderr: expect.stringContaining('restore that one') });
    // What only reads goes on without it.
    for (const args of [['status'], ['quarantine', 'list'], ['verify', '--offline']]) {
      expect(await runCommand(args, without('ERASURE_KEY')), args[0]).toMatchObject({ status: 0 });
    }
  });
});
