import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type OwnPostgres, startOwnPostgres } from '../support/own-postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

let postgres: OwnPostgres;
beforeAll(async () => {
  postgres = await startOwnPostgres();
});
afterAll(() => postgres.destroy());

/** One statement on a connection of its own; with the error's code where it fails. */
async function query(url: string, sql: string): Promise<unknown> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query(sql)).rows[0];
  } catch (error) {
    return (error as { code?: string }).code;
  } finally {
    await client.end().catch(() => {});
  }
}

test('a server of a test’s own dies and comes back at the same address', async () => {
  await query(postgres.url, 'create table kept as select 1 as one');
  const client = new pg.Client({ connectionString: postgres.url });
  const broken = new Promise((resolve) => client.on('error', resolve));
  await client.connect();
  await postgres.kill();
  await broken;
  expect(await query(postgres.url, 'select')).toBe('ECONNREFUSED');
  await postgres.start();
  expect(await query(postgres.url, 'select * from kept')).toEqual({ one: 1 });
  await postgres.stop('immediate');
  await postgres.start();
  expect(await query(postgres.url, 'select * from kept')).toEqual({ one: 1 });
});

test('a proxy stands between, and cuts and refuses', async () => {
  const proxy = await startTcpProxy({ host: '127.0.0.1', port: postgres.port });
  try {
    const url = new URL(postgres.url);
    url.port = String(proxy.port);
    expect(await query(url.href, 'select 1 as one')).toEqual({ one: 1 });
    const client = new pg.Client({ connectionString: url.href });
    const broken = new Promise((resolve) => client.on('error', resolve));
    await client.connect();
    proxy.cut();
    await broken;
    await proxy.refuse();
    expect(await query(url.href, 'select')).toBe('ECONNREFUSED');
    await proxy.heal();
    expect(await query(url.href, 'select 1 as one')).toEqual({ one: 1 });
  } finally {
    await proxy.close();
  }
});
