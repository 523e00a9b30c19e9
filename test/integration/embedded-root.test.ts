import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, rmdir, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { accountForNewData, isRoot } from '../../src/embedded/account.ts';
import { destroyEmbeddedPostgres } from '../../src/embedded/server.ts';
import { steadyPort } from '../support/steady-port.ts';
import { EmbeddedScene, modeOf, query } from './embedded-scene.ts';

const scene = EmbeddedScene.use();
const { takeFromStock, start } = scene;

describe.runIf(isRoot())('started by root', () => {
  test('runs under an unprivileged account that is given the data alone', async () => {
    const account = await accountForNewData();
    const server = await start();
    expect((await stat(`/proc/${server.pid}`)).uid).toBe(account?.uid);
    expect((await stat(server.dataDir)).uid).toBe(account?.uid);
    for (const ours of ['', 'postgres', 'postgres/password', 'postgres/server.log']) {
      expect((await stat(path.join(scene.dir, ours))).uid).toBe(0);
    }
  });

  test('keeps the data elsewhere when the account cannot reach the folder, and opens nothing', async () => {
    await mkdir(scene.dir, { mode: 0o700 });
    const lines: string[] = [];
    const log = (line: string) => lines.push(line);
    const first = await start({ log, port: await steadyPort() });
    expect(await modeOf(scene.dir)).toBe(0o700);
    expect(first.dataDir.startsWith(scene.dir)).toBe(false);
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
    await mkdir(scene.dir, { mode: 0o700 });
    const server = await start();
    await server.stop();
    await rm(path.dirname(server.dataDir), { recursive: true });
    await expect(start()).rejects.toThrow(/no longer there\. Delete .*\/postgres to begin/);
  });

  test('runs on the data of a user as that user, and takes nothing away', async () => {
    takeFromStock();
    const { url, stop, dataDir, logFile } = await start();
    await stop();
    execFileSync('chown', ['-R', '12345:12345', path.join(scene.dir, 'postgres')]);
    await rm(logFile);
    const server = await start();
    expect(server.url).toBe(url);
    for (const file of [`/proc/${server.pid}`, dataDir, logFile]) expect((await stat(file)).uid).toBe(12345);
  });

  test('is not led through symlinks in the folder to files of root’s', async () => {
    takeFromStock();
    const precious = path.join(scene.dir, 'precious');
    await writeFile(precious, 'precious');
    for (const name of ['server.log', 'port']) {
      await rm(path.join(scene.dir, 'postgres', name));
      await symlink(precious, path.join(scene.dir, 'postgres', name));
      await expect(start()).rejects.toMatchObject({ code: 'ELOOP' });
      await rm(path.join(scene.dir, 'postgres', name));
    }
    expect(await readFile(precious, 'utf8')).toBe('precious');
    await rm(path.join(scene.dir, 'postgres'), { recursive: true });
    await mkdir(`${scene.dir}-elsewhere`);
    await symlink(`${scene.dir}-elsewhere`, path.join(scene.dir, 'postgres'));
    await destroyEmbeddedPostgres(scene.dir);
    await rmdir(`${scene.dir}-elsewhere`);
  });
});
