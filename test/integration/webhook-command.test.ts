import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { FaultKind } from '../../src/simulator/faults.ts';
import { DEFAULT_API_KEY } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { runCli, SOURCES } from '../support/cli.ts';
import { runCommand } from '../support/command.ts';
import { httpOf, useDaemons } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const URL = 'https://crm.example.com/webhooks/whatsapp-use';

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let env: Record<string, string>;
let folder: string;
const { start, stopAll } = useDaemons(() => ({
  ...quickSettings(database.url, simulator.url),
  HTTP_PORT: '0',
}));

beforeAll(async () => {
  simulator = await startSimulator({ connections: ['conn_a', 'conn_b'], messages: 40 });
  folder = mkdtempSync(path.join(tmpdir(), 'wa-replica-webhook-'));
});
afterAll(async () => {
  await simulator.close();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  // No database: none of this needs one.
  env = { WHATSAPP_USE_API_KEY: DEFAULT_API_KEY, WHATSAPP_USE_BASE_URL: simulator.url };
});
afterEach(async () => {
  await stopAll();
  simulator.webhooks.endpoints.clear();
  simulator.world.removeKey('pa_live_two');
  simulator.world.keys.get(DEFAULT_API_KEY)!.scopes = ['whatsapp:read', 'webhooks:manage'];
});

const webhook = (...args: string[]) => runCommand(['webhook', ...args], env);
const endpoints = () => [...simulator.webhooks.endpoints.values()];

describe('create', () => {
  test('registers for message and connection events of all, and tells the secret once', async () => {
    const { status, stdout, stderr } = await runCli(['webhook', 'create', '--url', URL], env);
    expect([status, stderr]).toEqual([0, '']);
    const [endpoint] = endpoints();
    expect(endpoint).toMatchObject({ url: URL, all_accounts: true, connection_ids: [], enabled: true });
    expect(endpoint!.event_types.filter((type) => type.startsWith('whatsapp.message.'))).toHaveLength(6);
    expect(endpoint!.event_types).toContain('whatsapp.connection.status_changed');
    expect(endpoint!.event_types).toHaveLength(7);
    expect(stdout).toContain(`created ${endpoint!.id} for all connections\n`);
    expect(stdout).toContain(`WEBHOOK_SECRET=${endpoint!.secret}\n`);
    const { stdout: listed } = await webhook('list');
    expect(listed).toContain(endpoint!.id);
    expect(listed).not.toContain(endpoint!.secret);
  });

  test('of some connections only, where they are named', async () => {
    const { stdout } = await webhook(
      'create',
      '--url',
      URL,
      '--connection',
      'conn_a',
      '--connection',
      'conn_b',
    );
    expect(endpoints()).toMatchObject([{ all_accounts: false, connection_ids: ['conn_a', 'conn_b'] }]);
    expect(stdout).toContain('for conn_a, conn_b\n');
  });

  test('with a file for the secret, shows it nowhere', async () => {
    const file = path.join(folder, 'secret');
    const { status, stdout, stderr } = await webhook('create', '--url', URL, '--secret-file', file);
    expect(status).toBe(0);
    const { secret } = endpoints()[0]!;
    expect(readFileSync(file, 'utf8')).toBe(`${secret}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(stdout).toContain(`WEBHOOK_SECRET_FILE=${file}\n`);
    expect(stdout + stderr).not.toContain(secret);
  });

  test('overwrites no file, and creates nothing where the secret could not be kept', async () => {
    const file = path.join(folder, 'taken');
    writeFileSync(file, 'something');
    for (const place of [file, path.join(folder, 'missing', 'secret')]) {
      const { status, stderr } = await webhook('create', '--url', URL, '--secret-file', place);
      expect(status).toBe(2);
      expect(stderr).toContain(place);
    }
    expect(readFileSync(file, 'utf8')).toBe('something');
    expect(endpoints()).toEqual([]);
  });

  test('leaves no file behind where it fails', async () => {
    simulator.faults.script({ kind: 'internal' }, 1, { route: 'webhooks' });
    const file = path.join(folder, 'failed');
    const { status, stderr } = await webhook('create', '--url', URL, '--secret-file', file);
    expect([status, stderr]).toEqual([1, expect.stringContaining('POST /v1/webhooks/endpoints: HTTP 500')]);
    expect(() => statSync(file)).toThrow('ENOENT');
  });

  test('nor where the upstream tells no secret', async () => {
    const body = JSON.stringify({ id: 'whe_mute', url: URL, enabled: true });
    simulator.faults.script({ kind: 'answer', status: 201, body }, 1, { route: 'webhooks' });
    const file = path.join(folder, 'untold');
    const { status, stderr } = await webhook('create', '--url', URL, '--secret-file', file);
    expect([status, stderr]).toEqual([1, expect.stringContaining('delete whe_mute and create another')]);
    expect(() => statSync(file)).toThrow('ENOENT');
  });

  test.each<FaultKind>(['drop', 'cut', 'html', 'unavailable'])(
    'says that it may have been done all the same where the answer is %s',
    async (kind) => {
      simulator.faults.script({ kind }, 1, { route: 'webhooks' });
      const { status, stdout, stderr } = await webhook('create', '--url', URL);
      expect([status, stdout]).toEqual([1, '']);
      expect(stderr).toContain('may have been created all the same; see `wa-replica webhook list`\n');
    },
  );

  test.skipIf(!existsSync('/dev/full'))('names the endpoint whose secret nobody was told', async () => {
    const script = `"$0" ${SOURCES} webhook create --url ${URL} > /dev/full`;
    const child = spawn('sh', ['-c', script, process.execPath], { env, stdio: ['ignore', 'ignore', 'pipe'] });
    const [stderr, [status]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    expect(status).toBe(1);
    expect(stderr).toContain(`delete ${endpoints()[0]!.id} and create another\n`);
  });

  test.each([
    ['http://crm.example.com/webhooks/whatsapp-use', 'plain http'],
    ['https://crm.example.com/hooks', 'rewrite the path'],
  ])('warns of %s', async (url, warning) => {
    const { status, stderr } = await webhook('create', '--url', url);
    expect([status, stderr]).toEqual([0, expect.stringContaining(warning)]);
  });

  test.each([['crm.example.com'], ['ftp://crm.example.com'], [''], ['/webhooks']])(
    'of %s is wrong usage',
    async (url) => {
      expect((await webhook('create', '--url', url)).status).toBe(2);
      expect(endpoints()).toEqual([]);
    },
  );

  test('without a URL is wrong usage', async () => {
    expect((await webhook('create')).status).toBe(2);
  });
});

describe('a key', () => {
  test.each([
    [
      'without the scope',
      () => {
        simulator.world.keys.get(DEFAULT_API_KEY)!.scopes = ['whatsapp:read'];
      },
    ],
    [
      'that is forbidden to',
      () => {
        simulator.faults.script({ kind: 'answer', status: 403 }, 1, { route: 'webhooks' });
      },
    ],
  ])('%s: says which scope is missing', async (_, refuse) => {
    refuse();
    const { status, stderr } = await webhook('list');
    expect(status).toBe(1);
    expect(stderr).toContain('unauthorized');
    expect(stderr).toContain('scope webhooks:manage');
    expect(stderr).not.toContain(DEFAULT_API_KEY);
  });

  test('of several is the first, or the one that --key names', async () => {
    simulator.world.addKey({ key: 'pa_live_two', scopes: ['whatsapp:read'] });
    env.WHATSAPP_USE_API_KEY = `${DEFAULT_API_KEY},pa_live_two`;
    const first = await webhook('list');
    expect([first.status, first.stderr]).toEqual([0, expect.stringContaining('first of 2 keys')]);
    expect((await webhook('list', '--key', '1')).stderr).toBe('');
    expect(await webhook('list', '--key', '2')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('webhooks:manage'),
    });
    for (const place of ['3', '0', 'x']) expect((await webhook('list', '--key', place)).status).toBe(2);
  });

  test('is wanted', async () => {
    delete env.WHATSAPP_USE_API_KEY;
    expect(await webhook('list')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('WHATSAPP_USE_API_KEY'),
    });
  });
});

describe('list and delete', () => {
  test('show what there is, and take it away', async () => {
    expect((await webhook('list')).stdout).toBe('0 endpoints\n');
    await webhook('create', '--url', URL, '--connection', 'conn_a');
    await webhook('create', '--url', `${URL}?second`);
    const { stdout } = await webhook('list');
    const [first, second] = endpoints();
    expect(stdout.split('\n').find((line) => line.includes(first!.id))).toContain('conn_a');
    expect(stdout).toContain(`${URL}?second`);
    expect(stdout).toContain('2 endpoints\n');
    expect(await webhook('delete', first!.id)).toMatchObject({ status: 0, stdout: `deleted ${first!.id}\n` });
    expect(endpoints()).toEqual([second]);
  });

  test.each([['list'], ['create', '--url', URL]])(
    '%s speaks of no endpoint where there is no such API',
    async (...args) => {
      env.WHATSAPP_USE_BASE_URL = `${simulator.url}/v1`;
      const { status, stderr } = await webhook(...args);
      expect([status, stderr]).toEqual([1, expect.stringContaining('WHATSAPP_USE_BASE_URL')]);
      expect(stderr).not.toContain('webhook list');
    },
  );

  test.each(['delete', 'test'])('%s says so where there is none of that id', async (command) => {
    for (const id of ['whe_unknown', '../me', 'a/b']) {
      const { status, stderr } = await webhook(command, id);
      expect([status, stderr]).toEqual([1, expect.stringContaining('webhook list')]);
    }
  });
});

test('from create over the running daemon to test: the sample arrives, signed as it should be', async () => {
  const { stdout } = await webhook('create', '--url', 'http://127.0.0.1:9/webhooks/whatsapp-use');
  const [endpoint] = endpoints();
  const secret = /WEBHOOK_SECRET=(\S+)/.exec(stdout)![1]!;
  const daemon = start({ WEBHOOK_SECRET: secret, POLL_INTERVAL: '1h', POLL_INTERVAL_IDLE: '1h' });
  const unreached = await webhook('test', endpoint!.id);
  expect([unreached.status, unreached.stderr]).toEqual([1, expect.stringContaining('could not be reached')]);
  const url = `${await httpOf(daemon)}/webhooks/whatsapp-use`;
  simulator.webhooks.endpoints.set(endpoint!.id, { ...endpoint!, url });
  await waitFor(() => simulator.stats.served['sync 200']! >= 2, { what: 'the first polls' });
  expect(await webhook('test', endpoint!.id)).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('answered 200'),
  });
  // Neither good nor an error; the simulator follows redirects.
  const moved = createServer((_, response) => response.writeHead(304).end());
  await once(moved.listen(0, '127.0.0.1'), 'listening');
  const elsewhere = `http://127.0.0.1:${(moved.address() as AddressInfo).port}/`;
  simulator.webhooks.endpoints.set(endpoint!.id, { ...endpoint!, url: elsewhere });
  expect(await webhook('test', endpoint!.id)).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('answered 304'),
  });
  moved.close();
  simulator.webhooks.endpoints.set(endpoint!.id, { ...endpoint!, url, secret: 'whsec_another' });
  expect(await webhook('test', endpoint!.id)).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('WEBHOOK_SECRET of the daemon'),
  });
});

test('--help says what the key needs, and which is used', async () => {
  for (const args of [[], ['create'], ['list'], ['delete'], ['test']]) {
    const { status, stdout } = await webhook(...args, '--help');
    expect(status).toBe(0);
    expect(stdout).toContain('webhooks:manage');
    expect(stdout).toContain('--key');
  }
});
