import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { accountForNewData } from '../../src/embedded/account.ts';
import { serverProcess } from '../../src/embedded/command.ts';
import { isAlive } from '../../src/embedded/postmaster.ts';
import { startEmbeddedPostgres, stopEmbeddedPostgres } from '../../src/embedded/server.ts';
import { EmbeddedScene, modeOf, query } from './embedded-scene.ts';

const source = path.resolve(import.meta.dirname, '../../src/embedded/server.ts');
const scene = EmbeddedScene.use();
const { settings, takeFromStock, start } = scene;

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
    const password = path.join(scene.dir, 'postgres/password');
    expect(await modeOf(password)).toBe(0o600);
    expect(await modeOf(server.dataDir)).toBe(0o700);
    expect(server.psqlLine).toContain(password);
    expect(server.psqlLine).not.toContain(new URL(server.url).password);
  });

  test('is one, when several start it at once', async () => {
    const all = await Promise.all([start(), start(), start()]);
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1);
    expect(all.filter(({ reused }) => !reused)).toHaveLength(1);
    expect((await readdir(scene.dir)).sort()).toEqual(['postgres']);
  });
});

test('a folder in which none can be made is refused', async () => {
  await expect(startEmbeddedPostgres({ dir: '/proc/nowhere/data', settings })).rejects.toThrow(
    /The folder \/proc\/nowhere cannot be made \(ENOENT\)\. Choose another/,
  );
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

  test('takes away what a killed initdb has left, and leaves what may still be at work', async () => {
    for (const name of ['postgres.new-old', 'postgres.new-young', 'postgres.mine'])
      await mkdir(path.join(scene.dir, name, 'data'), { recursive: true });
    const ago = Date.now() / 1000 - 2 * 3600;
    for (const name of ['postgres.new-old', 'postgres.mine'])
      await utimes(path.join(scene.dir, name), ago, ago);
    await start();
    expect((await readdir(scene.dir)).sort()).toEqual(['postgres', 'postgres.mine', 'postgres.new-young']);
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
    await expect(
      startEmbeddedPostgres({ dir: scene.dir, settings: { no_such_setting: '1' } }),
    ).rejects.toThrow('unrecognized configuration parameter "no_such_setting"');
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
    await rm(path.join(scene.dir, 'postgres', file));
    await expect(start()).rejects.toThrow(/is missing\. Restore it, or move/);
  });

  test('says when the password is another', async () => {
    const server = await start();
    await writeFile(path.join(scene.dir, 'postgres/password'), '*:*:*:wa_replica:guess\n');
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
    expect(await stopEmbeddedPostgres(scene.dir)).toBe(true);
    expect(await stopEmbeddedPostgres(scene.dir)).toBe(false);
    await first.stop();
  });

  test.each(['SIGINT', 'SIGKILL'] as const)(
    'outlives a %s to the group of who started it',
    async (signal) => {
      const script = `
      import { startEmbeddedPostgres } from ${JSON.stringify(source)};
      const { pid } = await startEmbeddedPostgres(${JSON.stringify({ dir: scene.dir, settings })});
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
