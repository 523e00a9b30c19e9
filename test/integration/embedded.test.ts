import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, rmdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { accountForNewData, isRoot } from '../../src/embedded/account.ts';
import { serverProcess } from '../../src/embedded/command.ts';
import { isAlive } from '../../src/embedded/postmaster.ts';
import {
  destroyEmbeddedPostgres,
  type EmbeddedPostgres,
  startEmbeddedPostgres,
  stopEmbeddedPostgres,
} from '../../src/embedded/server.ts';
import { scratchFolder } from '../support/scratch.ts';
import { steadyPort } from '../support/steady-port.ts';

const source = path.resolve(import.meta.dirname, '../../src/embedded/server.ts');
const settings = { fsync: 'off' };
/** A cluster that has been started once: a copy of it is there ten times sooner than a new one. */
const stock = scratchFolder();
let dir: string;

beforeAll(async () => {
  // The copies have its port, and want it again and again.
  await (await startEmbeddedPostgres({ dir: stock, settings, port: await steadyPort() })).stop();
});
afterAll(() => rm(stock, { recursive: true }));

beforeEach(() => {
  dir = scratchFolder();
});
afterEach(async () => {
  await destroyEmbeddedPostgres(dir);
  await rm(dir, { recursive: true, force: true });
});

function takeFromStock(): void {
  execFileSync('cp', ['-a', stock, dir]);
}

function start(more: { port?: number; log?: (line: string) => void } = {}): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({ dir, settings, ...more });
}

async function query(url: string, sql: string): Promise<Record<string, unknown>> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows[0] ?? {};
  } finally {
    await client.end();
  }
}

const modeOf = async (file: string) => (await stat(file)).mode & 0o777;

describe('a new server', () => {
  test('is set up for the replica, and closed to others', async () => {
    const server = await start();
    expect(
      await query(
        server.url,
        `select current_database() as database, current_setting('server_encoding') as encoding,
                current_setting('timezone') as timezone, datcollate as locale, lower('ÀÉ') as lower,
                current_setting('listen_addresses') as listens, current_setting('unix_socket_directories') as sockets,
                current_setting('fsync') as fsync, (select string_agg(distinct auth_method, ' ') from pg_hba_file_rules) as auth
           from pg_database where datname = current_database()`,
      ),
    ).toEqual({
      ...{ database: 'wa_replica', encoding: 'UTF8', timezone: 'UTC', locale: 'C', lower: 'àé' },
      ...{ listens: '127.0.0.1', sockets: '', fsync: 'off', auth: 'scram-sha-256' },
    });
    const wrong = new URL(server.url);
    wrong.password = 'postgres';
    await expect(query(wrong.href, 'select')).rejects.toMatchObject({ code: '28P01' });
    const password = path.join(dir, 'postgres/password');
    expect(await modeOf(password)).toBe(0o600);
    expect(await modeOf(server.dataDir)).toBe(0o700);
    expect(server.psqlLine).toContain(password);
    expect(server.psqlLine).not.toContain(new URL(server.url).password);
  });

  test('is one, when several start it at once', async () => {
    const all = await Promise.all([start(), start(), start()]);
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(all.filter(({ reused }) => !reused)).toHaveLength(1);
    expect((await readdir(dir)).sort()).toEqual(['postgres']);
  });
});

describe('a server of one’s own', () => {
  beforeEach(takeFromStock);

  test('keeps statements and values out of its log', async () => {
    const server = await start();
    await query(server.url, 'create table secrets (name text primary key)');
    const twice = `insert into secrets values ('Ada Lovelace'), ('Ada Lovelace')`;
    await expect(query(server.url, twice)).rejects.toMatchObject({ code: '23505' });
    await expect(query(server.url, `select 'Ada Lovelace'::int`)).rejects.toMatchObject({ code: '22P02' });
    const log = await readFile(server.logFile, 'utf8');
    expect(log).toContain('ready to accept connections');
    expect(log).not.toContain('Lovelace');
    expect(await modeOf(server.logFile)).toBe(0o600);
  });

  test('stops, stops again, starts again with its data on the same port', async () => {
    const first = await start();
    await query(first.url, 'create table kept as select 1 as one');
    await first.stop();
    expect(await isAlive(first.pid)).toBe(false);
    await Promise.all([first.stop(), first.stop('immediate')]);
    const second = await start();
    expect([second.url, second.reused]).toEqual([first.url, false]);
    expect(await query(second.url, 'select * from kept')).toEqual({ one: 1 });
    // The handle of a server that is gone does not reach its successor.
    await first.stop();
    expect(await query(second.url, 'select * from kept')).toEqual({ one: 1 });
  });

  test('takes another port when its own is taken, unless told to have that one', async () => {
    const first = await start();
    await first.stop();
    const squatter = createServer().listen(first.port, '127.0.0.1');
    await once(squatter, 'listening');
    try {
      await expect(start({ port: first.port })).rejects.toThrow('Address already in use');
      const second = await start();
      expect(second.port).not.toBe(first.port);
      await second.stop();
    } finally {
      squatter.close();
    }
    expect((await start({ port: first.port })).port).toBe(first.port);
  });

  test('says the last words of a server that does not start', async () => {
    await expect(startEmbeddedPostgres({ dir, settings: { no_such_setting: '1' } })).rejects.toThrow(
      'unrecognized configuration parameter "no_such_setting"',
    );
  });

  test('refuses data of another major version, naming the remedy', async () => {
    const server = await start();
    await server.stop();
    await writeFile(path.join(server.dataDir, 'PG_VERSION'), '14\n');
    await expect(start()).rejects.toThrow(/made by PostgreSQL 14.*Move that folder away/);
  });
});

describe('a folder with a damaged cluster', () => {
  beforeEach(takeFromStock);

  test.each(['password', 'data/PG_VERSION'])('says that %s is missing', async (file) => {
    await rm(path.join(dir, 'postgres', file));
    await expect(start()).rejects.toThrow(/is missing\. Restore it, or move/);
  });

  test('says when the password is another', async () => {
    const server = await start();
    await writeFile(path.join(dir, 'postgres/password'), '*:*:*:wa_replica:guess\n');
    await expect(start()).rejects.toThrow('refuses the password');
    await server.stop();
  });
});

describe('a server found running', () => {
  beforeEach(takeFromStock);

  test('is reused, and not stopped', async () => {
    const first = await start();
    const second = await start();
    expect([second.reused, second.pid, second.url]).toEqual([true, first.pid, first.url]);
    await second.stop();
    expect(await query(first.url, 'select 1 as one')).toEqual({ one: 1 });
    expect(await stopEmbeddedPostgres(dir)).toBe(true);
    expect(await stopEmbeddedPostgres(dir)).toBe(false);
    await first.stop();
  });

  test.each(['SIGINT', 'SIGKILL'] as const)(
    'outlives a %s to the group of who started it',
    async (signal) => {
      const script = `
      import { startEmbeddedPostgres } from ${JSON.stringify(source)};
      const { pid } = await startEmbeddedPostgres(${JSON.stringify({ dir, settings })});
      console.log(pid);
      setInterval(() => {}, 1000);`;
      const starter = spawn(process.execPath, ['--input-type=module', '-e', script], {
        detached: true,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [said] = (await once(starter.stdout, 'data')) as [Buffer];
      // To the whole group, as a terminal does.
      process.kill(-(starter.pid ?? Number.NaN), signal);
      await once(starter, 'exit');
      const found = await start();
      expect([found.reused, found.pid]).toEqual([true, Number(said)]);
      expect(await query(found.url, 'select 1 as one')).toEqual({ one: 1 });
    },
  );
});

describe('a crash', () => {
  beforeEach(takeFromStock);

  test('loses nothing that was committed', async () => {
    const first = await start();
    await query(first.url, 'create table kept as select 1 as one');
    await first.crash();
    expect(await isAlive(first.pid)).toBe(false);
    const second = await start();
    expect([second.reused, second.url]).toEqual([false, first.url]);
    expect(await query(second.url, 'select * from kept')).toEqual({ one: 1 });
  });

  test('leaves a pid file that is seen through, even when its pid lives again', async () => {
    const server = await start();
    await server.crash();
    const account = await accountForNewData();
    // Another program of the same user: Postgres by itself would refuse to start.
    const other = spawn('/bin/sleep', ['1000'], serverProcess(account));
    try {
      const file = path.join(server.dataDir, 'postmaster.pid');
      const lines = await readFile(file, 'utf8');
      await writeFile(file, lines.replace(/^\d+/, String(other.pid)));
      const again = await start();
      expect([again.reused, again.url]).toEqual([false, server.url]);
      await again.stop();
      expect(other.exitCode ?? other.signalCode).toBe(null);
    } finally {
      other.kill();
    }
  });
});

describe.runIf(isRoot())('started by root', () => {
  test('runs under an unprivileged account that is given the data alone', async () => {
    const account = await accountForNewData();
    const server = await start();
    expect((await stat(`/proc/${server.pid}`)).uid).toBe(account?.uid);
    expect((await stat(server.dataDir)).uid).toBe(account?.uid);
    for (const ours of ['', 'postgres', 'postgres/password', 'postgres/server.log']) {
      expect((await stat(path.join(dir, ours))).uid).toBe(0);
    }
  });

  test('keeps the data elsewhere when the account cannot reach the folder, and opens nothing', async () => {
    await mkdir(dir, { mode: 0o700 });
    const lines: string[] = [];
    const log = (line: string) => lines.push(line);
    const first = await start({ log, port: await steadyPort() });
    expect(await modeOf(dir)).toBe(0o700);
    expect(first.dataDir.startsWith(dir)).toBe(false);
    expect(lines.join()).toContain(`the database is in ${path.dirname(first.dataDir)}`);
    await query(first.url, 'create table kept as select 1 as one');
    await first.stop();
    const second = await start({ log });
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select * from kept')).toEqual({ one: 1 });
    await second.destroy();
    await expect(stat(path.dirname(first.dataDir))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('says so when the data that a folder points to are gone', async () => {
    await mkdir(dir, { mode: 0o700 });
    const server = await start();
    await server.stop();
    await rm(path.dirname(server.dataDir), { recursive: true });
    await expect(start()).rejects.toThrow(/no longer there\. Delete .*\/postgres to begin/);
  });

  test('runs on the data of a user as that user, and takes nothing away', async () => {
    takeFromStock();
    const { url, stop, dataDir, logFile } = await start();
    await stop();
    execFileSync('chown', ['-R', '12345:12345', path.join(dir, 'postgres')]);
    await rm(logFile);
    const server = await start();
    expect(server.url).toBe(url);
    for (const file of [`/proc/${server.pid}`, dataDir, logFile]) expect((await stat(file)).uid).toBe(12345);
  });

  test('is not led through symlinks in the folder to files of root’s', async () => {
    takeFromStock();
    const precious = path.join(dir, 'precious');
    await writeFile(precious, 'precious');
    for (const name of ['server.log', 'port']) {
      await rm(path.join(dir, 'postgres', name));
      await symlink(precious, path.join(dir, 'postgres', name));
      await expect(start()).rejects.toMatchObject({ code: 'ELOOP' });
      await rm(path.join(dir, 'postgres', name));
    }
    expect(await readFile(precious, 'utf8')).toBe('precious');
    await rm(path.join(dir, 'postgres'), { recursive: true });
    await mkdir(`${dir}-elsewhere`);
    await symlink(`${dir}-elsewhere`, path.join(dir, 'postgres'));
    await destroyEmbeddedPostgres(dir);
    await rmdir(`${dir}-elsewhere`);
  });
});
