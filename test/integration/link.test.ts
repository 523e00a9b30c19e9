import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { deleteLinks, whileLinking } from '../../src/store/crm-links.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';
import { LinkScene } from './link-scene.ts';

/* The CRM's contacts by number: what the query gives now is what is linked, and no number is ever told. */

const { database, crm, link, contact, links } = LinkScene.use();
const tuples = async () =>
  (
    await database.query<{ at: string }>(
      `select xmin::text || ctid::text as at from whatsapp.crm_links order by 1`,
    )
  ).map(({ at }) => at);

test('numbers of several columns and rows, in the country of the row, else the default one', async () => {
  await contact('7', '0151 12345678', '+44 7911 123456');
  await contact('7', '0151-12345678');
  await contact('8', '(555) 555-0123', ' ', 'us');
  await contact('9', 'ask reception', '030 1234567', 'XX');
  await contact('10', null);
  await contact(null, '0151 9');
  const report = await link();
  expect(await links()).toEqual([
    { crm_id: '7', phone_e164: '+447911123456', raw_phone: '+44 7911 123456' },
    { crm_id: '7', phone_e164: '+4915112345678', raw_phone: '0151 12345678' },
    { crm_id: '8', phone_e164: '+15555550123', raw_phone: '(555) 555-0123' },
    { crm_id: '9', phone_e164: '+49301234567', raw_phone: '030 1234567' },
  ]);
  expect(report).toEqual({
    ...{ rows: 6, links: 4, contacts: 3, added: 4, removed: 0, matched: 1, nameless: 1 },
    ...{ ambiguous: 0, shared: [], unreadable: 1, unreadableIds: ['9'] },
  });
});

test('what the query gives now: new ones, changed ones, and those that are gone; the rest is not touched', async () => {
  for (const id of ['a', 'b', 'c', 'd', 'Z', 'é', '😀'])
    await contact(id, `0151 1234567${id.codePointAt(0)! % 10}`);
  expect(await link()).toMatchObject({ added: 7, removed: 0 });
  const before = await tuples();
  expect(await link()).toMatchObject({ added: 0, removed: 0, links: 7 });
  expect(await tuples()).toEqual(before);
  await crm.query(`delete from contacts where id in ('a', 'd', 'é')`);
  await crm.query(`update contacts set phone = '030 99999' where id = 'b'`);
  await crm.query(`update contacts set phone = replace(phone, ' ', '-') where id = 'c'`);
  await contact('bb', '030 88888');
  expect(await link()).toMatchObject({ added: 2, removed: 4, links: 5 });
  expect((await links()).map(({ crm_id, raw_phone }) => [crm_id, raw_phone])).toEqual([
    ['Z', '0151 12345670'],
    ['b', '030 99999'],
    ['bb', '030 88888'],
    ['c', '0151-12345679'],
    ['😀', '0151 12345672'],
  ]);
  await crm.query('truncate contacts');
  expect(await link()).toMatchObject({ rows: 0, removed: 5, links: 0 });
});

test('more contacts than are read at a time, of which many have several rows', async () => {
  await crm.query(`insert into contacts select 'id' || n / 3, '+49151' || lpad(n::text, 8, '0')
    from generate_series(1, 5000) n order by random()`);
  await link();
  await crm.query(`delete from contacts where right(id, 1) = '7'`);
  await crm.query(
    `insert into contacts select 'new' || n, '+49160' || lpad(n::text, 8, '0') from generate_series(1, 2500) n`,
  );
  const report = await link();
  const [all] = await crm.query<{ n: number }>(
    'select count(distinct (id, phone))::integer as n from contacts',
  );
  expect(report).toMatchObject({ links: all!.n, added: 2500, removed: 5000 - (all!.n - 2500) });
  expect(await links()).toEqual(
    await crm.query(`select id as crm_id, phone as phone_e164, phone as raw_phone from contacts
      order by id collate "C", phone`),
  );
});

test('every contact’s number has changed, also of those at which a batch of them ends', async () => {
  await crm.query(
    `insert into contacts select n::text, '+49151' || lpad(n::text, 8, '0') from generate_series(1, 2500) n`,
  );
  await link();
  await crm.query(`update contacts set phone = replace(phone, '+49151', '+49160')`);
  expect(await link()).toMatchObject({ links: 2500, added: 2500, removed: 2500 });
});

test('of several writings of a number always the same is kept: the contact’s own, and no longer than it need be', async () => {
  await contact('1', '0151-12345678', '0151 12345678');
  // One that WhatsApp knows, and one that is another form of it.
  await contact('2', '+55 11 8765-4321', '+55 (11) 98765-4321');
  await contact('3', `030 12345 ${'-'.repeat(200)}`);
  expect(await link()).toMatchObject({ contacts: 3, matched: 2 });
  expect((await links()).map(({ raw_phone }) => raw_phone)).toEqual([
    '0151 12345678',
    '+55 11 8765-4321',
    '+55 (11) 98765-4321',
    `030 12345 ${'-'.repeat(90)}`,
  ]);
});

test('of many that are ambiguous or unreadable the first ones are named', async () => {
  await crm.query(`insert into contacts select id, '+49151' || lpad(n::text, 8, '0'), 'ask'
    from generate_series(25, 1, -1) n, lateral (values ('y' || n), ('x' || n)) c (id)`);
  const report = await link();
  expect(report).toMatchObject({ ambiguous: 25, unreadable: 50 });
  const first = Array.from({ length: 25 }, (_, n) => [`x${n + 1}`, `y${n + 1}`]).sort();
  expect(report!.shared).toEqual(first.slice(0, 20));
  expect(report!.unreadableIds).toEqual(first.map(([x]) => x).slice(0, 20));
});

test('numbers that several contacts have are told by their contacts, not by the number', async () => {
  for (const [id, phone] of [
    ['1', '0151 12345678'],
    ['2', '+4915112345678'],
    ['3', '030 1'],
    ['4', '030 12345'],
  ] as const)
    await contact(id, phone);
  expect(await link()).toMatchObject({ links: 4, ambiguous: 1, shared: [['1', '2']], matched: 2 });
});

test('a number that WhatsApp knows in an older form is linked by that, too; where nobody is known by it, not', async () => {
  await contact('br', '+55 11 98765-4321');
  await contact('mx', '+52 55 1234 5678');
  expect(await link()).toMatchObject({ links: 3, contacts: 2, matched: 1 });
  expect((await links()).map(({ phone_e164 }) => phone_e164)).toEqual([
    '+551187654321',
    '+5511987654321',
    '+525512345678',
  ]);
});

test('a dry run says the same, and writes nothing', async () => {
  await contact('1', '0151 12345678');
  await contact('2', '0151 12345678');
  const dry = await link(undefined, { dryRun: true });
  expect(await links()).toEqual([]);
  expect(await link()).toEqual(dry);
  await crm.query('truncate contacts');
  expect(await link(undefined, { dryRun: true })).toMatchObject({ removed: 2, links: 0 });
  expect(await links()).toHaveLength(2);
});

test('while one links, another does not wait', async () => {
  await contact('1', '0151 12345678');
  const inner = await whileLinking(database.db, SCHEMA, true, () => link());
  expect(inner).toBeUndefined();
  expect(await links()).toEqual([]);
  // Into another schema, it is none of its business.
  expect(await whileLinking(database.db, 'another', true, () => link())).toMatchObject({ links: 1 });
});

test('whoever links may rest for as long as the CRM takes to answer, and no longer', async () => {
  await database.db.connection().execute(async (db) => {
    await sql`set idle_in_transaction_session_timeout = '1s'`.execute(db);
    const own = await whileLinking(db, SCHEMA, true, async (trx) => {
      const { rows } =
        await sql`select current_setting('idle_in_transaction_session_timeout') as own`.execute(trx);
      return rows[0];
    });
    await sql`reset idle_in_transaction_session_timeout`.execute(db);
    expect(own).toEqual({ own: '5min' });
  });
});

test('one that is stopped changes nothing', async () => {
  await contact('1', '0151 12345678');
  await expect(link(undefined, {}, AbortSignal.abort(new Error('stopped')))).rejects.toThrow('stopped');
  expect(await links()).toEqual([]);
});

test('links go by number', async () => {
  await contact('1', '0151 12345678', '030 12345');
  await contact('2', '0151 12345678');
  await link();
  expect(await deleteLinks(database.db, ['+4915112345678', '+49999'])).toBe(2);
  expect(await links()).toMatchObject([{ crm_id: '1', phone_e164: '+493012345' }]);
});

test('the timeline of a contact: its messages on every connection', async () => {
  const jid = '4915112345678@s.whatsapp.net';
  const message = (id: string, fields: object) => ({
    message_id: id,
    conversation_id: `c-${jid}`,
    seq: 1,
    ...fields,
  });
  for (const connection of ['conn_a', 'conn_b']) {
    await applyAnswer(
      database.db,
      {
        cursor: 100,
        messages: [
          message('in', {
            chat_jid: jid,
            sender_jid: jid,
            direction: 'incoming',
            body: 'hello',
            sent_at: '2026-11-01T10:00:00Z',
          }),
          message('out', {
            chat_jid: jid,
            direction: 'outgoing',
            body: 'hi',
            sent_at: '2026-11-01T11:00:00Z',
          }),
          message('group', {
            chat_jid: '1@g.us',
            sender_jid: jid,
            direction: 'incoming',
            body: 'all',
            sent_at: '2026-11-01T12:00:00Z',
          }),
          message('other', {
            chat_jid: '4930@s.whatsapp.net',
            direction: 'outgoing',
            body: 'no',
            sent_at: '2026-11-01T12:00:00Z',
          }),
        ],
      },
      {},
      connection,
    );
  }
  await contact('42', '0151 12345678', '+55 11 98765-4321');
  expect(await link()).toMatchObject({ contacts: 1, matched: 1 });
  const rows =
    await database.query(`select connection_id, message_id, body, person_e164 from whatsapp.crm_timeline
    where crm_id = '42' order by sent_at, connection_id`);
  expect(rows.map(({ connection_id, message_id }) => `${connection_id} ${message_id}`)).toEqual([
    ...['conn_a in', 'conn_b in', 'conn_a out', 'conn_b out', 'conn_a group', 'conn_b group'],
  ]);
  expect(new Set(rows.map(({ person_e164 }) => person_e164))).toEqual(new Set(['+4915112345678']));
});

describe('wa-replica link', () => {
  const env = () => ({
    DATABASE_URL: database.url,
    CRM_DATABASE_URL: crm.url,
    CRM_CONTACTS_QUERY: ' select id, phone from contacts -- all of them\n;',
    CRM_DEFAULT_COUNTRY: 'de',
  });

  test('says what it linked, without a number', async () => {
    for (const id of ['1', '2']) await contact(id, '0151 12345678');
    await contact('bad\u0007', 'nothing');
    const dry = await runCommand(['link', '--dry-run'], env());
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(dry.stdout).toContain('a dry run: nothing was written');
    expect(await links()).toEqual([]);
    const { status, stdout } = await runCommand(['link'], env());
    expect(status).toBe(0);
    expect(stdout).toBe(`rows        3  that CRM_CONTACTS_QUERY gives
linked      2  numbers of 2 contacts (2 new, 0 gone)
matched     2  of these contacts are known on WhatsApp
ambiguous   1  numbers that several contacts have: 1 = 2
unreadable  1  texts that are no number, or lack a country: bad\uFFFD
`);
    const json = await runCommand(['link', '--json'], env());
    expect(JSON.parse(json.stdout)).toMatchObject({ links: 2, added: 0, shared: [['1', '2']] });
  });

  test('without a query it says which setting is missing', async () => {
    const { status, stderr } = await runCommand(['link'], { DATABASE_URL: database.url });
    expect([status, stderr]).toEqual([2, expect.stringContaining('CRM_CONTACTS_QUERY is not set')]);
  });

  test.each([
    [{ CRM_CONTACTS_QUERY: 'delete from contacts' }, 'CRM_CONTACTS_QUERY wants a query'],
    [{ CRM_DEFAULT_COUNTRY: 'Germany' }, 'CRM_DEFAULT_COUNTRY wants the two letters'],
    [{ CRM_LINK_CRON: 'sometimes' }, 'CRM_LINK_CRON wants'],
    [{ CRM_CONTACTS_QUERY: '' }, 'CRM_DATABASE_URL is set without CRM_CONTACTS_QUERY'],
  ])('%j is told before anything is touched', async (wrong, problem) => {
    const { status, stderr } = await runCommand(['link'], { ...env(), ...wrong });
    expect([status, stderr]).toEqual([2, expect.stringContaining(problem)]);
  });
});
