import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, type TestContext, test, vi } from 'vitest';
import { recognize } from '../../src/errors/errors.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { PgClient } from '../../src/store/client.ts';
import { runSeveral } from '../support/cli.ts';
import { useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';

/* A password that is in libpq's password file alone. */

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let folder: string;
/** The database's URL without its password. */
let url: string;
let password: string;
/** A server that wants no password has nothing to show. */
let asked: boolean;

beforeAll(async () => {
  simulator = await startSimulator({ messages: 20, connections: ['conn_a'] });
  url = Object.assign(new URL(database.url), { password: '' }).href;
  password = decodeURIComponent(new URL(database.url).password);
});
afterAll(() => simulator.close());

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-passfile-'));
  // Whoever runs the tests may have files of their own.
  vi.stubEnv('PGPASSFILE', path.join(folder, 'pass word'));
  vi.stubEnv('HOME', folder);
  asked = (await outcome()) === 'NO_PASSWORD';
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const needsPassword = (context: TestContext) => context.skip(!asked, 'this server asks for no password');

/** Writes a password file. */
function write(text: string, { name = 'pass word', mode = 0o600 } = {}): void {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
}

/** A line; any login's, unless told. */
const line = (secret: string, login = '*:*:*:*') => `${login}:${secret.replace(/[\\:]/g, '\\$&')}\n`;

/** How a connection goes: `connected`, or the code of the error. */
async function outcome(connectionString = url): Promise<string | undefined> {
  const client = new PgClient({ connectionString });
  client.on('error', () => {});
  try {
    await client.connect();
    return 'connected';
  } catch (error) {
    return (error as { code?: string }).code;
  } finally {
    await client.end();
  }
}

test('every command finds it for each of its connections, and nothing warns', async (context) => {
  needsPassword(context);
  const { hostname, port, pathname, username } = new URL(url);
  write(line(password, `${hostname}:${port || '5432'}:${pathname.slice(1)}:${username}`));
  const commands = ['migrate', 'sync', 'doctor', 'link', 'status'];
  const { ended, output } = await runSeveral(commands, {
    ...quickSettings(url, simulator.url),
    PGPASSFILE: path.join(folder, 'pass word'),
    SEARCH: 'off',
    CRM_CONTACTS_QUERY: `select 'a', '+4915112345678'`,
    CRM_DATABASE_URL: url,
    CRM_DEFAULT_COUNTRY: 'DE',
  });
  const [migrate, sync, doctor, link, status] = ended;
  expect([migrate, sync, link, status].map((one) => one?.status)).toEqual([0, 0, 0, 0]);
  expect(doctor).toMatchObject({ status: 0, stdout: expect.stringContaining('✓ listen: NOTIFY is heard') });
  expect(doctor?.stdout).toContain('✓ crm: CRM_CONTACTS_QUERY can be read');
  expect(output).not.toContain(password);
  expect(output).not.toMatch(/warning/i);
});

test('the one in the home folder is looked at without PGPASSFILE', async (context) => {
  needsPassword(context);
  vi.stubEnv('PGPASSFILE', undefined);
  write(line(password), { name: '.pgpass' });
  expect(await outcome()).toBe('connected');
});

test('it is read for each connection', async (context) => {
  needsPassword(context);
  write(line('the old one'));
  expect(await outcome()).toBe('28P01');
  write(line(password));
  expect(await outcome()).toBe('connected');
});

test('a password of the URL, or of PGPASSWORD, comes first', async (context) => {
  needsPassword(context);
  write(line(password));
  expect(await outcome(Object.assign(new URL(url), { password: 'wrong' }).href)).toBe('28P01');
  vi.stubEnv('PGPASSWORD', 'wrong');
  expect(await outcome()).toBe('28P01');
});

test('where there is no line for the login, none is given', async (context) => {
  needsPassword(context);
  write(line(password, '*:*:another:*'));
  expect(await outcome()).toBe('NO_PASSWORD');
});

test('a folder in its place is none', async (context) => {
  needsPassword(context);
  mkdirSync(path.join(folder, 'pass word'));
  expect(await outcome()).toBe('NO_PASSWORD');
});

test.for([
  ['its group', 0o640],
  ['everybody', 0o604],
  ['a writer', 0o620],
] as const)('open to %s it is not used, and that is told', async ([, mode], context) => {
  needsPassword(context);
  write(line(password), { mode });
  const client = new PgClient({ connectionString: url });
  client.on('error', () => {});
  const error = recognize(await client.connect().catch((thrown: unknown) => thrown));
  await client.end();
  expect(error).toMatchObject({ kind: 'database', code: 'PASSFILE_PERMISSIONS' });
  expect(error?.hint).toMatch(/^the server wants a password, .* while others may read it: chmod 600$/);
});
