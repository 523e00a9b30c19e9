import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';

/* The queries of docs/crm.md, as they stand there, on tables with the names that these CRMs have. */

const PAGE = readFileSync(path.join(import.meta.dirname, '../../docs/crm.md'), 'utf8');

/** The query under a heading. */
function recipe(name: string): string {
  const section = PAGE.split(`\n### ${name}\n`)[1]!.split('\n#')[0]!;
  return /```sql\n([\s\S]*?)```/.exec(section)![1]!;
}

const database = useTestDatabase({ migrated: true });
beforeEach(async () => {
  await database.query('truncate whatsapp.crm_links; drop schema public cascade; create schema public');
});

async function linked(query: string): Promise<string[]> {
  const env = { DATABASE_URL: database.url, CRM_CONTACTS_QUERY: query, CRM_DEFAULT_COUNTRY: 'DE' };
  expect(await runCommand(['link'], env)).toMatchObject({ status: 0, stderr: '' });
  const rows = await database.query<{ crm_id: string; phone_e164: string }>(
    'select crm_id, phone_e164 from whatsapp.crm_links order by crm_id, phone_e164 collate "C"',
  );
  return rows.map(({ crm_id, phone_e164 }) => `${crm_id} ${phone_e164}`);
}

test.each([
  ['with mobile', true],
  ['of a newer version', false],
])('Odoo, %s', async (_, mobile) => {
  await database.query(`
    create table res_country (id serial primary key, name jsonb, code varchar(2), phone_code integer);
    insert into res_country (id, code) values (57, 'DE'), (75, 'FR');
    create table res_partner (id serial primary key, name varchar, country_id integer references res_country,
      phone varchar, ${mobile ? 'mobile varchar,' : ''} email varchar, active boolean, is_company boolean);
    insert into res_partner (id, name, country_id, phone, active) values (1, 'A', 75, '01 23 45 67 89', true),
      (2, 'B', null, '030 1234567', true), (3, 'C', 57, '+49 151 12345678', false), (4, 'D', 57, null, true)`);
  if (mobile) await database.query(`update res_partner set mobile = '06 12 34 56 78' where id = 1`);
  const query = mobile ? recipe('Odoo') : recipe('Odoo').replace(' p.mobile,', '');
  expect(await linked(query)).toEqual([
    '1 +33123456789',
    ...(mobile ? ['1 +33612345678'] : []),
    '2 +49301234567',
  ]);
});

test('Twenty', async () => {
  await database.query(`
    drop schema if exists workspace_1a2b3c cascade;
    create schema workspace_1a2b3c;
    create table workspace_1a2b3c.person (id uuid primary key default gen_random_uuid(), "nameFirstName" text,
      "nameLastName" text, "phonesPrimaryPhoneNumber" text default '', "phonesPrimaryPhoneCountryCode" text default '',
      "phonesPrimaryPhoneCallingCode" text default '', "phonesAdditionalPhones" jsonb,
      "createdAt" timestamptz default now(), "deletedAt" timestamptz);
    insert into workspace_1a2b3c.person (id, "phonesPrimaryPhoneNumber", "phonesPrimaryPhoneCountryCode",
      "phonesPrimaryPhoneCallingCode", "phonesAdditionalPhones", "deletedAt") values
      ('00000000-0000-0000-0000-000000000001', '612345678', 'FR', '+33',
        '[{"number": "2079460958", "callingCode": "+44", "countryCode": "GB"}, {"number": "+4915112345678"}]', null),
      ('00000000-0000-0000-0000-000000000002', '9876543210', 'IN', '', null, null),
      ('00000000-0000-0000-0000-000000000003', '612345679', 'FR', '+33', '[]', now()),
      ('00000000-0000-0000-0000-000000000004', '', '', '', '{}', null)`);
  const id = (n: number) => `00000000-0000-0000-0000-00000000000${n}`;
  expect(await linked(recipe('Twenty'))).toEqual([
    `${id(1)} +33612345678`,
    `${id(1)} +442079460958`,
    `${id(1)} +4915112345678`,
    `${id(2)} +919876543210`,
  ]);
});

test('Chatwoot', async () => {
  await database.query(`
    create table contacts (id serial primary key, name varchar default '', email varchar, phone_number varchar,
      account_id integer not null, created_at timestamp not null default now(), updated_at timestamp not null default now(),
      additional_attributes jsonb default '{}', identifier varchar, custom_attributes jsonb default '{}');
    insert into contacts (phone_number, account_id)
      values ('+4915112345678', 1), (null, 1), ('', 1), ('+33612345678', 2), ('+551187654321', 1)`);
  expect(await linked(recipe('Chatwoot'))).toEqual(['1 +4915112345678', '5 +551187654321']);
});

test('a table of your own', async () => {
  await database.query(`create table contacts (id bigint primary key, phone text);
    insert into contacts values (9007199254740993, '0151 12345678'), (2, null)`);
  expect(await linked(recipe('A table of your own'))).toEqual(['9007199254740993 +4915112345678']);
});
