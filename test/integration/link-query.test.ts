import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { readContacts } from '../../src/crm/contacts.ts';
import { linkContacts } from '../../src/crm/linking.ts';
import { SCHEMA, useTestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait.ts';
import { LinkScene, NEVER } from './link-scene.ts';

/* CRM_CONTACTS_QUERY is anybody's SQL: what cannot be, is told as that, and changes nothing. */

const { database, crm, link, contact, links } = LinkScene.use();

describe('a query that cannot be', () => {
  test.each<[what: string, query: string, expected: object]>([
    ['no SQL', 'select id phone from from contacts', { code: '42601' }],
    ['no such table', 'select id, phone from nowhere', { code: '42P01' }],
    ['no such column', 'select id, telephone from contacts', { code: '42703' }],
    ['one that writes', `select id, setval('s', 1)::text from contacts`, { code: '25006' }],
    [
      'one that deletes',
      'with gone as (delete from contacts returning id, phone) select * from gone',
      { code: '0A000' },
    ],
    [
      'two statements',
      'select id, phone from contacts) contacts; drop table contacts; select * from (select 1',
      { code: '42601' },
    ],
    ['no number', 'select id from contacts', { where: 'CRM_CONTACTS_QUERY gives no number' }],
    ['a country alone', 'select id, country from contacts', { where: 'CRM_CONTACTS_QUERY gives no number' }],
    [
      'an id that is none',
      `select repeat('x', 1025), phone from contacts`,
      { where: 'CRM_CONTACTS_QUERY gives an id over 1024 bytes' },
    ],
    [
      'an id of many bytes',
      `select repeat('é', 513), phone from contacts`,
      { where: 'CRM_CONTACTS_QUERY gives an id over 1024 bytes' },
    ],
    [
      'one id for all',
      `select 'x', '030 12345' from generate_series(1, 10100)`,
      { where: 'CRM_CONTACTS_QUERY gives more than 10000 rows of one id' },
    ],
  ])('%s: the setting, and what to do; nothing has changed', async (_, query, expected) => {
    await crm.query('create sequence if not exists s');
    await contact('1', '0151 12345678');
    await link();
    const error = await link(query).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: 'crm', hint: expect.stringMatching(/\w/), ...expected });
    expect((error as Error).message).toContain('CRM_CONTACTS_QUERY');
    expect(await links()).toHaveLength(1);
    expect(await crm.query('select from contacts')).toHaveLength(1);
  });

  test('a column is the country by its name alone, and never the first', async () => {
    await contact('US', '(555) 555-0123', null, 'us');
    await link(`select repeat('x', 1024), phone, country as "Country" from contacts`);
    expect(await links()).toMatchObject([{ phone_e164: '+15555550123' }]);
    expect(await link('select id as country, phone from contacts', { country: 'US' })).toMatchObject({
      links: 1,
    });
    expect(await links()).toMatchObject([{ crm_id: 'US' }]);
  });

  test('a connection that is cut between two batches', async () => {
    await crm.query(`insert into contacts select n::text, n::text from generate_series(1, 1500) n`);
    const contacts = readContacts({
      url: crm.url,
      ownDatabase: true,
      query: 'select id, phone from contacts',
    });
    expect((await contacts.next()).value).toHaveLength(1000);
    const open = () =>
      crm.query(`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name = 'wa-replica link'`);
    await waitFor(async () => (await open()).length === 0, { what: 'the connection to be cut' });
    await expect(contacts.next()).rejects.toMatchObject({ kind: 'crm' });
  });

  test('more rows than can be meant', async () => {
    await contact('1', '0151 12345678');
    await link();
    for (const id of ['2', '3', '4']) await contact(id, '0151 12345678');
    await expect(link(undefined, { mostRows: 3 })).rejects.toMatchObject({
      message: 'CRM_CONTACTS_QUERY gives more than 3 rows: nothing is linked anew',
    });
    expect(await links()).toHaveLength(1);
    expect(await link(undefined, { mostRows: 4 })).toMatchObject({ links: 4 });
  });

  test('one that takes too long', async () => {
    const contacts = { url: crm.url, ownDatabase: true, query: `select '1', pg_sleep(60)::text` };
    const order = {
      db: database.db,
      schema: SCHEMA,
      contacts,
      country: undefined,
      dryRun: false,
      mostTime: 200,
    };
    await expect(linkContacts(order, NEVER)).rejects.toMatchObject({
      ...{ kind: 'crm', code: '57014', hint: 'it takes more than 0.2 s: narrow it, or make it quicker' },
    });
  });

  test('one whose contacts are read for too long, a batch at a time', async () => {
    await crm.query(`insert into contacts select n::text, n::text from generate_series(1, 1500) n`);
    vi.useFakeTimers({ toFake: ['performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const query = { url: crm.url, ownDatabase: true, query: 'select id, phone from contacts' };
    const contacts = readContacts(query, undefined, 60_000);
    onTestFinished(() => void contacts.return(undefined));
    expect((await contacts.next()).value).toHaveLength(1000);
    vi.advanceTimersByTime(60_001);
    await expect(contacts.next()).rejects.toMatchObject({ kind: 'crm', code: '57014' });
  });

  test('a database that is not there is named by its setting', async () => {
    const url = Object.assign(new URL(crm.url), { port: '9' }).href;
    const contacts = { url, ownDatabase: true, query: 'select 1, 2' };
    await expect(link('', { contacts })).rejects.toMatchObject({
      hint: expect.stringContaining('CRM_DATABASE_URL'),
    });
    await expect(link('', { contacts: { ...contacts, ownDatabase: false } })).rejects.toMatchObject({
      hint: expect.stringMatching(/[^_]DATABASE_URL/),
    });
  });

  test('values of a row that fails are told nowhere', async () => {
    await contact('1', 'secret-number');
    const error = (await link('select id, (phone::integer)::text from contacts').catch(
      (e: unknown) => e,
    )) as Error;
    expect(error).toMatchObject({ kind: 'crm', code: '22P02' });
    expect(`${error.message} ${error.stack} ${JSON.stringify(error)}`).not.toContain('secret-number');
  });
});

describe.each(['WIN1252', 'SQL_ASCII'])('a CRM in another encoding: %s', (encoding) => {
  const other = useTestDatabase({ encoding });

  test('every contact is linked, once, and stays so, whatever order its bytes have there', async () => {
    await other.query(`create table contacts as
      select letter || n as id, '0151 1' || n as phone
      from unnest(array['a', 'ž', 'é']) letter, generate_series(100001, 100700) n`);
    const contacts = { url: other.url, ownDatabase: true, query: 'select id, phone from contacts' };
    expect(await link('', { contacts })).toMatchObject({ rows: 2100, links: 2100, added: 2100, removed: 0 });
    expect(await link('', { contacts })).toMatchObject({ links: 2100, added: 0, removed: 0 });
  });
});
