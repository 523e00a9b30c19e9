import pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { indexStands, PARTS_INDEX, SEARCH_INDEX, tendIndexes } from '../../src/store/indexes.ts';
import { searchMessages, tendSearch } from '../../src/store/search.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA } from '../support/database.ts';
import { ANNA, at, SearchScene } from './search-scene.ts';

/* What is found is the same with the index and without it; only how long it takes differs (`npm run bench -- search`). */

const { database, message, write, ids } = SearchScene.use();

describe.each(['off', 'on', 'parts'] as const)('SEARCH=%s', (kind) => {
  beforeAll(async () => {
    await tendIndexes(database.db, SCHEMA, { search: kind });
    expect(await indexStands(database.db, SCHEMA, SEARCH_INDEX)).toBe(kind !== 'off');
    expect(await indexStands(database.db, SCHEMA, PARTS_INDEX)).toBe(kind === 'parts');
    await tendSearch(database.db, SCHEMA);
  });

  test.each<[query: string, more: object, found: string[]]>([
    ['invoice', { phone: '+4915112345678', connection: 'a' }, ['lid', 'ours', 'second', 'first', 'timeless']],
    ['invoice', { phone: '+4915112345678' }, ['other', 'lid', 'ours', 'second', 'first', 'timeless']],
    ['invoice', { person: 'bert', connection: 'a' }, ['bert']],
    ['invoice', { connection: 'a', max: 2 }, ['bert', 'lid']],
    ['INVOICE october', {}, ['first']],
    ['"invoice is"', {}, ['ours']],
    ['"is invoice"', {}, []],
    ['october or paid', {}, ['ours', 'first']],
    ['invoice -group -reminder', { connection: 'a' }, ['bert', 'ours', 'first', 'timeless']],
    ['rechn*', {}, ['third']],
    ['rechn', {}, []],
    ['हिन्*', {}, ['odd']],
    ['हिन्', {}, []],
    ['Café-LA*', {}, ['odd']],
    ['"café la*"', {}, ['odd']],
    ['12.5* +49151*', {}, ['odd']],
    ['re-2*', {}, ['third']],
    ['example.com/r* or nothing', {}, ['third']],
    ['reminder -inv*', {}, []],
    ['october -re*', {}, ['first']],
    ['example.*', {}, ['third']],
    ['RE-2026-7* -example.*', {}, []],
    ['"see example.*" or 12.*', {}, ['odd', 'third']],
    ['anna@exam* or nothing', {}, ['odd']],
    ['Anna@*', {}, ['odd']],
    ['"to anna@example.o*"', {}, ['odd']],
    ['anna@example.c*', {}, []],
    ['@exam* wareplicabegin1x anna@*', {}, []],
    ["o'anna@* \\@* .* @* a@b:c* (anna@*", {}, []],
    ['re-2026-77', {}, ['third']],
    ['example.com', {}, ['third']],
    ['see https://example.com/re', {}, ['third']],
    ['https://exam* or nothing', {}, ['third']],
    ['rechnungen -https://example.com/re', {}, []],
    ['https://example.com/ru', {}, []],
    ['"see https://example.com/re" example.com:80', {}, []],
    [
      'invoice',
      { since: new Date(at(1)), before: new Date(at(5)), connection: 'a' },
      ['lid', 'ours', 'second'],
    ],
    ['oldest', {}, ['n1']],
    ['oldest', { phone: '+9123456' }, ['n1']],
    ['seldom', { max: 3 }, ['n6000', 'n5500', 'n5000']],
    ['seldom', { before: new Date('2020-03-01') }, ['n1000', 'n500']],
    ['seldom', { since: new Date('2020-07-26T22:00:00Z'), phone: '+9123456' }, ['n6000', 'n5500', 'n5000']],
    ['filler', { max: 2, before: new Date('2020-01-02T00:00:00Z') }, ['n23', 'n22']],
    ['invoice', { phone: '+49999' }, []],
    ['invoice', { connection: 'nowhere' }, []],
    ['', {}, []],
    ['-- !! ()', {}, []],
    [`'; drop table messages; --`, {}, []],
    ["o'clock* \\* :* &", {}, []],
    [`example.com/o'bar'x bar.com/x'y bar* bar.com/x*`, {}, []],
  ])('%s, of %j', async (query, more, found) => expect(await ids(query, more)).toEqual(found));

  test.each<[query: string, more: object, found: string[]]>([
    ['voic octo', {}, ['first']],
    ['VOICE IS', { connection: 'a', max: 2 }, ['ours']],
    ['"of octo"', {}, ['first']],
    ['"octo of"', {}, []],
    ['chnungen: re-2026-7', {}, ['third']],
    ['ample.com/r', {}, ['third']],
    ['26_77', {}, []],
    ['inv%ice', {}, []],
    ['\\', {}, []],
    ['%', {}, []],
    [`o'c" "`, {}, []],
    ['  ""', {}, []],
    ['ldes', {}, ['n1']],
    ['ldes', { phone: '+9123456' }, ['n1']],
    ['eldo', { max: 3 }, ['n6000', 'n5500', 'n5000']],
    ['eldo', { before: new Date('2020-03-01') }, ['n1000', 'n500']],
    ['voice', { phone: '+4915112345678', connection: 'a' }, ['lid', 'ours', 'second', 'first', 'timeless']],
  ])('parts: %s, of %j', async (query, more, found) =>
    expect(await ids(query, { parts: true, ...more })).toEqual(found),
  );

  test('of a contact of the CRM', async () => {
    await database.query(
      `insert into whatsapp.crm_links (crm_id, phone_e164) values ('17', '+4930123456') on conflict do nothing`,
    );
    expect(await ids('invoice', { crmId: '17' })).toEqual(['bert']);
    expect(await ids('invoice', { crmId: '18' })).toEqual([]);
  });

  test('every match comes, once, in its order, whatever the page', async () => {
    const all = await ids('seldom', { max: 100 });
    expect(all).toEqual(Array.from({ length: 12 }, (_, i) => `n${6000 - i * 500}`));
    expect(await ids('backlog', { max: 10_000 })).toHaveLength(6000);
  });

  test('a row says who, where and when', async () => {
    const [row] = await searchMessages(database.db, SCHEMA, { query: 'paid', max: 1 });
    expect(row).toMatchObject({
      ...{ connection_id: 'a', conversation_id: `chat-${ANNA}`, is_from_me: true, chat_kind: 'direct' },
      ...{
        chat_title: 'Anna',
        person_name: 'Anna',
        person_e164: '+4915112345678',
        body: 'your invoice is paid',
      },
    });
  });
});

test('no body is refused for the index: not a long one, nor one of long words, nor one that is all words', async () => {
  await tendIndexes(database.db, SCHEMA, { search: 'parts' });
  const numbered = (each: (n: number) => string) =>
    Array.from({ length: 160_000 }, (_, n) => each(n)).join('');
  const bodies = [
    'x'.repeat(3_000_000),
    numbered((n) => `${n.toString(36)} `),
    numbered((n) => `${String.fromCodePoint(0x20000 + (n % 40_000))} `),
    numbered((n) => `${String.fromCodePoint(0x20000 + (n % 40_000))}-`),
    numbered((n) => `a${n}.example.com/b${n}-c${n}/d `),
    numbered((n) => `a${n}-b${n}-`),
    numbered((n) => `/${n}`),
    `${'e\u0301'.repeat(100_000)} ${'İ'.repeat(100_000)} ${'İ '.repeat(100_000)}`,
  ];
  const { tally } = await write(
    'long',
    bodies.map((body, n) => message(`long${n}`, `beginning ${body} ending`)),
  );
  expect(tally.message).toMatchObject({ inserted: bodies.length });
  await tendSearch(database.db, SCHEMA);
  expect(await ids('beginning')).toHaveLength(bodies.length);
  expect(await ids('ending')).toEqual([]);
  expect(await ids('eginnin', { parts: true })).toHaveLength(bodies.length);
  expect(await database.query('select from whatsapp.quarantine')).toEqual([]);
});

test('SEARCH=off drops the indexes, on and parts build theirs, by migrate', async () => {
  const env = { DATABASE_URL: database.url };
  const migrate = async (kind: string) => (await runCommand(['migrate'], { ...env, SEARCH: kind })).stdout;
  expect(await migrate('on')).toContain('indexes dropped: messages_by_parts\n');
  expect(await migrate('parts')).toContain('indexes built: messages_by_parts\n');
  expect(await migrate('off')).toMatch(
    /indexes dropped: messages_by_(words, messages_by_parts|parts, messages_by_words)\n/,
  );
  expect(await indexStands(database.db, SCHEMA, SEARCH_INDEX)).toBe(false);
  await tendSearch(database.db, SCHEMA);
  expect((await runCommand(['migrate'], env)).stdout).toContain('indexes built: messages_by_words');
  expect((await runCommand(['migrate'], env)).stdout).toBe('the schema is up to date\n');
});

test('what waits in the index is merged into it', async () => {
  await write('a', [message('late', 'a late invoice')]);
  const [merged] = await database.query<{ n: string }>('select whatsapp.tend_search() as n');
  expect(Number(merged!.n)).toBeGreaterThan(0);
  expect(await database.query('select whatsapp.tend_search() as n')).toEqual([{ n: '0' }]);
});

test('the extension may be in any schema, and is left where it is', async () => {
  await database.query('drop extension pg_trgm cascade; create schema "Else""where"');
  await database.query('create extension pg_trgm schema "Else""where"');
  const { built, obstacle } = await tendIndexes(database.db, SCHEMA, { search: 'parts' });
  expect([built, obstacle]).toEqual([['messages_by_parts'], undefined]);
  expect(await ids('ldes', { parts: true })).toEqual(['n1']);
  expect((await tendIndexes(database.db, SCHEMA, { search: 'on' })).dropped).toEqual(['messages_by_parts']);
  expect(await database.query(`select extname from pg_extension where extname = 'pg_trgm'`)).toHaveLength(1);
});

test('what a session makes of backslashes in literals changes nothing', async (context) => {
  const [server] = await database.query<{ version: number }>(
    `select current_setting('server_version_num')::integer as version`,
  );
  context.skip(server!.version >= 190_000, 'literals have one form only');
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query('set standard_conforming_strings = off');
    const found = async (query: string, parts = false) => {
      const { rows } = await client.query(
        'select message_id from whatsapp.search_messages($1, parts => $2)',
        [query, parts],
      );
      return rows.map(({ message_id }) => message_id);
    };
    expect(await found('see https://example.com/re')).toEqual(['third']);
    expect(await found('anna@exam* 12.5*')).toEqual(['odd']);
    expect(await found('26_77', true)).toEqual([]);
    expect(await found('ample.com/r', true)).toEqual(['third']);
  } finally {
    await client.end();
  }
});

test('an argument that cannot be', async () => {
  for (const max of ['0', '-1', 'null']) {
    await expect(
      database.query(`select * from whatsapp.search_messages('a', max => ${max})`),
    ).rejects.toMatchObject({
      code: '22023',
    });
  }
});
