/** `wa-replica media`, what `doctor` says of the store, and what the daemon tells of attachments. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { httpOf } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { type MediaFolder, mediaFolder } from '../support/media.ts';
import { parseMetrics } from '../support/prometheus.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let folder: MediaFolder;
beforeAll(async () => {
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b'], messages: 200 });
  folder = mediaFolder();
});
afterAll(async () => {
  await simulator.close();
  folder.remove();
});
beforeEach(() => database.query('truncate whatsapp.media'));

const env = (more: Record<string, string> = {}) => ({
  ...quickSettings(database.url, simulator.url),
  ...{ MEDIA_STORE: folder.url, ...more },
});
const media = (args: string[], more: Record<string, string> = {}) =>
  runCommand(['media', ...args], { DATABASE_URL: database.url, MEDIA_STORE: folder.url, ...more });
const row = (id: string, state: string, more = 'null, null, null', connection = 'conn_a') =>
  database.query(`insert into whatsapp.media
    (connection_id, message_id, state, location, error_kind, error, bytes)
    values ('${connection}', '${id}', '${state}', ${more}, ${state === 'stored' ? 1536 : 'null'})`);

test('the help names what there is, and wrong usage ends with 2', async () => {
  const help = await media(['--help']);
  for (const word of ['status', 'retry', 'path']) expect(help.stdout).toContain(word);
  expect((await media(['path', '--help'])).stdout).toContain('s3://');
  expect(await media([])).toMatchObject({ status: 2 });
  expect(await media(['path'])).toMatchObject({ status: 2 });
  expect(await media(['status'], { MEDIA_STORE: '/srv/media' })).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('MEDIA_STORE wants file:///path or s3://bucket/prefix'),
  });
});

test('status counts by connection and state', async () => {
  expect(await media(['status'])).toMatchObject({ status: 0, stdout: 'no attachments\n', stderr: '' });
  await row('m1', 'stored', `'file:///a', null, null`);
  await row('m2', 'pending', `null, 'upstream', 'HTTP 500'`);
  await row('m3', 'failed', `null, 'oversize', 'too large'`);
  await row('m4', 'unavailable', `null, 'not_found', 'HTTP 404'`);
  await row('m5', 'pending', 'null, null, null', 'conn_b');
  await database.query(`update whatsapp.media set sent_at = now() - interval '3 hours'`);
  const { stdout } = await media(['status']);
  expect(stdout).toMatch(
    /conn_a +1 +1\.5 KiB +1 +3 h +1 +1 +(oversize 1, upstream 1|upstream 1, oversize 1)/,
  );
  expect(stdout).toMatch(/conn_b +0 +0 B +1 +3 h +0 +0 +–/);
  const json = await media(['status', '--json', '--connection', 'conn_a'], { MEDIA_STORE: 'off' });
  expect(JSON.parse(json.stdout)).toMatchObject({
    ...{ connection_id: 'conn_a', stored: '1', pending: '1', unavailable: '1', failed: '1', bytes: '1536' },
    errors: { oversize: 1, upstream: 1 },
  });
  expect(json.stderr).toContain('MEDIA_STORE is off');
});

test('retry makes due what waits and what failed; what is gone only when it is named', async () => {
  await row('m1', 'failed', `null, 'oversize', 'x'`);
  await row('m2', 'unavailable', `null, 'not_found', 'x'`);
  await row('m3', 'stored', `'file:///a', null, null`);
  await row('m4', 'failed', `null, 'oversize', 'x'`, 'conn_b');
  const states = () =>
    database.query('select message_id, state, error from whatsapp.media order by message_id');
  expect(await media(['retry', '--connection', 'conn_a'])).toMatchObject({ stdout: '1 attachment is due\n' });
  expect(await states()).toMatchObject([
    { state: 'pending', error: null },
    ...[{ state: 'unavailable' }, { state: 'stored' }, { state: 'failed' }],
  ]);
  expect(await media(['retry', '--unavailable', '--message', 'm2', 'm4'])).toMatchObject({
    stdout: '2 attachments are due\n',
  });
  expect(await media(['retry', '--message', 'm3'])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('none of these'),
  });
});

test('path prints where a file is, or why there is none', async () => {
  await row('m1', 'stored', `'file:///srv/a%20b/x.jpg', null, null`);
  await row('m2', 'stored', `'s3://bucket/x.jpg', null, null`);
  await row('m2', 'pending', 'null, null, null', 'conn_b');
  await row('m3', 'failed', `null, 'oversize', 'GET /v1/whatsapp/media: 9 bytes or more'`);
  expect(await media(['path', 'm1'])).toMatchObject({ status: 0, stdout: '/srv/a b/x.jpg\n' });
  expect(await media(['path', 'm2'])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('conn_a, conn_b'),
  });
  expect(await media(['path', 'm2', '--connection', 'conn_a'])).toMatchObject({
    stdout: 's3://bucket/x.jpg\n',
  });
  expect(await media(['path', 'm3'])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('failed (GET /v1/whatsapp/media: 9 bytes or more)'),
  });
  expect(await media(['path', 'nobody'])).toMatchObject({ status: 1, stdout: '' });
});

test('doctor checks the store', async () => {
  const good = await runCommand(['doctor'], env());
  expect(good).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('✓ attachments: the store can be written'),
  });
  const inTheWay = path.join(folder.path, 'file');
  writeFileSync(inTheWay, '');
  const bad = await runCommand(['doctor'], env({ MEDIA_STORE: `${folder.url}/file` }));
  expect(bad).toMatchObject({
    status: 1,
    stdout: expect.stringContaining('✗ attachments: opening the archive'),
  });
  const away = await runCommand(['doctor'], env({ DATABASE_URL: 'postgres://127.0.0.1:9/x' }));
  expect(away).toMatchObject({
    status: 1,
    stdout: expect.stringContaining(
      '✗ attachments: whose the store is cannot be told\n    mend the database first\n',
    ),
  });
  const off = await runCommand(['doctor'], env({ MEDIA_STORE: 'off' }));
  expect(off.stdout).not.toContain('attachments');
});

test('the daemon keeps what comes and tells of it, without a name, a text or an id of a message', async () => {
  const daemon = startCli(['run'], env({ HTTP_PORT: '0', LOG_LEVEL: 'debug' }));
  try {
    const url = await httpOf(daemon);
    const counted = () =>
      database.query<{ state: string; n: number }>(
        'select state, count(*)::integer as n from whatsapp.media group by 1',
      );
    const stored = await waitFor(
      async () => {
        const states = Object.fromEntries((await counted()).map(({ state, n }) => [state, n]));
        const behind = await database.query('select from whatsapp.sync_state where caught_up_at is null');
        return (
          behind.length === 0 && (states.stored ?? 0) > 20 && states.pending === undefined && states.stored
        );
      },
      { what: 'the attachments' },
    );
    const metrics = parseMetrics(await (await fetch(`${url}/metrics`)).text());
    const value = (name: string, series = name) => metrics.get(name)?.values.get(series);
    expect(value('wa_replica_media', 'wa_replica_media{state="stored"}')).toBe(stored);
    expect(value('wa_replica_media_oldest_pending_seconds')).toBe(0);
    expect(value('wa_replica_media_bytes')).toBeGreaterThan(10_000);
    expect(value('wa_replica_media_up')).toBe(1);
    const [one] = await database.query<{ message_id: string; location: string }>(
      `select message_id, location from whatsapp.media where state = 'stored' limit 1`,
    );
    expect(fileURLToPath(one!.location).startsWith(folder.path)).toBe(true);
    await daemon.logged('attachment stored');
    expect(daemon.stderr).not.toContain(one!.message_id);
    expect(await daemon.kill('SIGTERM')).toBe(0);
    expect(daemon.stderr).not.toContain('"level":"error"');
  } finally {
    await daemon.kill('SIGKILL');
  }
});
