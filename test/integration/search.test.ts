import { beforeAll, describe, expect, test } from 'vitest';
import { indexStands, PARTS_INDEX, SEARCH_INDEX, tendIndexes } from '../../src/store/indexes.ts';
import { searchMessages, tendSearch } from '../../src/store/search.ts';
import { runCommand } from '../support/command.ts';
import { SCHEMA, useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';

/* What is found is the same with the index and without it; only how long it takes differs (`npm run bench -- search`). */

const database = useTestDatabase({ migrated: true });
let seq = 0;
const at = (minutes: number) => new Date(Date.UTC(2026, 9, 1) + minutes * 60_000).toISOString();
const ANNA = '4915112345678@s.whatsapp.net';
const ANNA_LID = '55@lid';
const BERT = '4930123456@s.whatsapp.net';

const message = (id: string, body: string | null, more: object = {}) => ({
  message_id: id,
  conversation_id: `chat-${ANNA}`,
  chat_jid: ANNA,
  sender_jid: ANNA,
  direction: 'incoming',
  body,
  sent_at: at(seq),
  seq: ++seq,
  ...more,
});
const write = (connection: string, messages: readonly object[], more: object = {}) =>
  applyAnswer(database.db, { cursor: ++seq + 10_000, messages, ...more }, {}, connection);

beforeAll(async () => {
  const contacts = [
    {
      person_id: 'anna',
      display_name: 'Anna',
      phone_e164: '+4915112345678',
      phone_jid: ANNA,
      lid_jid: ANNA_LID,
    },
    { person_id: 'bert', display_name: 'Bert', phone_e164: '+4930123456', phone_jid: BERT },
  ];
  const conversations = [
    { conversation_id: `chat-${ANNA}`, chat_jid: ANNA, kind: 'direct', direct_person_id: 'anna', seq: 1 },
    { conversation_id: 'group', chat_jid: '1@g.us', kind: 'group', subject: 'Friends', seq: 1 },
  ];
  await write(
    'a',
    [
      message('first', 'The Invoice of October'),
      message('second', 'no invoice, a reminder of an invoice'),
      message('third', 'Rechnungen: RE-2026-77, see https://example.com/re'),
      message('ours', 'your invoice is paid', { direction: 'outgoing', sender_jid: '49@s.whatsapp.net' }),
      message('lid', 'group invoice', { conversation_id: 'group', chat_jid: '1@g.us', sender_jid: ANNA_LID }),
      message('bert', 'invoice of Bert', { conversation_id: 'group', chat_jid: '1@g.us', sender_jid: BERT }),
      message('picture', null, { content_type: 'image' }),
      message('timeless', 'invoice without a time', { sent_at: null }),
    ],
    { contacts, conversations },
  );
  await write('b', [message('other', 'INVOICE on another number')], { contacts, conversations });
  // Far more than are walked through, so that the index is asked.
  await database.query(`insert into whatsapp.messages (connection_id, message_id, chat_jid, sender_jid, direction, body, sent_at)
    select 'bulk', 'n' || n, '9@s.whatsapp.net', '9@s.whatsapp.net', 'incoming',
      'filler of a backlog' || case when n % 500 = 0 then ' seldom' else '' end || case when n = 1 then ' oldest' else '' end,
      timestamptz '2020-01-01' + n * interval '1 hour' from generate_series(1, 6000) n`);
  await database.query(`insert into whatsapp.sync_state (connection_id) values ('bulk')`);
  await database.query(
    `insert into whatsapp.jids (connection_id, jid, phone_e164) values ('bulk', '9@s.whatsapp.net', '+9123456')`,
  );
});

const ids = async (query: string, more: object = {}) =>
  (await searchMessages(database.db, SCHEMA, { query, max: 50, ...more })).map(
    ({ message_id }) => message_id,
  );

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
    ['re-2026-77', {}, ['third']],
    ['example.com', {}, ['third']],
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

test('an argument that cannot be', async () => {
  for (const max of ['0', '-1', 'null']) {
    await expect(
      database.query(`select * from whatsapp.search_messages('a', max => ${max})`),
    ).rejects.toMatchObject({
      code: '22023',
    });
  }
});

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
    [['--since', 'whenever', 'a'], 'wants a duration'],
    [['--limit', '0', 'a'], 'wants a whole number from 1'],
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
