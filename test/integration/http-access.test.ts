import { networkInterfaces } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { type CliProcess, runCli, startCli } from '../support/cli.ts';
import { httpOf } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { ask, basic, bearer, readiness } from '../support/http.ts';
import { quickSettings } from '../support/replica.ts';

const TOKEN = 'tök:en with "all", sorts=';
const OPEN = ['/healthz', '/readyz'];
const GUARDED = ['/', '/status', '/metrics'];
const HOOK = '/webhooks/whatsapp-use';

const database = useTestDatabase();
let simulator: Simulator;
const running: CliProcess[] = [];
beforeAll(async () => {
  simulator = await startSimulator({ messages: 50, connections: ['conn_private'] });
});
afterAll(async () => {
  for (const daemon of running) await daemon.kill('SIGKILL');
  await simulator.close();
});

/** A daemon on every address of this machine. */
async function start(more: Record<string, string>): Promise<string> {
  const env = {
    ...quickSettings(database.url, simulator.url),
    HTTP_PORT: '0',
    HTTP_HOST: '0.0.0.0',
    ...more,
  };
  const daemon = startCli(['run'], env);
  running.push(daemon);
  const base = await httpOf(daemon);
  await readiness(base, { status: 200 });
  return base;
}

const status = async (url: string, headers: Record<string, string> = {}) =>
  (await ask(url, { headers })).status;

describe('with a token', () => {
  let base: string;
  beforeAll(async () => {
    base = await start({ HTTP_AUTH_TOKEN: TOKEN, WEBHOOK_SECRET: 'whsec' });
  });

  test.each(OPEN)('%s is open', async (path) => {
    expect(await status(base + path)).toBe(200);
    // Whatever the name it is asked under, as an orchestrator does.
    expect(await status(base + path, { host: 'replica.example' })).toBe(200);
  });

  test.each(GUARDED)('%s wants it, as bearer or as the password of basic auth', async (path) => {
    expect(await status(base + path, bearer(TOKEN))).toBe(200);
    expect(await status(base + path, { authorization: bearer(TOKEN).authorization!.replace('B', 'b') })).toBe(
      200,
    );
    expect(await status(base + path, basic('anyone', TOKEN))).toBe(200);
    expect(await status(base + path, basic('', TOKEN))).toBe(200);
    const refused = await ask(base + path);
    expect(refused).toMatchObject({
      status: 401,
      body: 'the token is wanted, as bearer or as the password\n',
    });
    // So that a browser asks for it.
    expect(refused.headers['www-authenticate']).toBe('Basic realm="wa-replica", charset="UTF-8"');
  });

  test.each<[what: string, Record<string, string>]>([
    ['another one', bearer('another')],
    ['a part of it', bearer(TOKEN.slice(0, -1))],
    ['more than it', bearer(`${TOKEN}x`)],
    ['none', bearer('')],
    ['a scheme without anything', { authorization: 'Bearer' }],
    ['as the user', basic(TOKEN, '')],
    ['another password', basic('anyone', 'another')],
    ['no base64', { authorization: 'Basic ====' }],
    ['another scheme', { authorization: `Token ${TOKEN}` }],
    ['in the address', {}],
  ])('a wrong one is refused: %s', async (what, headers) => {
    const query = what === 'in the address' ? `?token=${encodeURIComponent(TOKEN)}` : '';
    for (const path of GUARDED) expect(await status(base + path + query, headers)).toBe(401);
  });

  test('the webhook wants its own signature, not the token', async () => {
    const answer = await ask(base + HOOK, { method: 'POST', headers: bearer(TOKEN), body: '{}' });
    expect(answer).toMatchObject({ status: 401, body: 'unauthorized\n' });
  });

  test('what is not there, and what is asked in the wrong way', async () => {
    const headers = bearer(TOKEN);
    expect(await ask(`${base}/favicon.ico`, { headers })).toMatchObject({ status: 404, body: 'not found\n' });
    expect(await status(`${base}/status/`, headers)).toBe(404);
    expect(await status(`${base}//status`, headers)).toBe(404);
    expect(await status(`${base}/status?pretty`, headers)).toBe(200);
    const posted = await ask(`${base}/status`, { method: 'POST', headers, body: 'x'.repeat(100_000) });
    expect(posted).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    expect(await ask(base + HOOK)).toMatchObject({ status: 405, headers: { allow: 'POST' } });
    expect(await ask(`${base}/healthz`, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
    // Not even that much is told without the token.
    expect(await ask(`${base}/status`, { method: 'HEAD' })).toMatchObject({ status: 401, body: '' });
  });

  test('no answer is kept by caches, guessed at, or framed', async () => {
    for (const path of [...OPEN, ...GUARDED]) {
      const { headers } = await ask(base + path, { headers: bearer(TOKEN) });
      expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    }
  });

  test('no answer, and no line of the log, holds a secret', async () => {
    const secrets = [TOKEN, 'whsec', 'pa_live_simulated', new URL(database.url).password];
    for (const headers of [{}, bearer(TOKEN), bearer('another')]) {
      for (const path of [...OPEN, ...GUARDED, HOOK, '/elsewhere']) {
        const { body, headers: told } = await ask(base + path, { headers });
        for (const secret of secrets.filter((one) => one !== '')) {
          expect(body + JSON.stringify(told)).not.toContain(secret);
          expect(running.at(-1)?.stderr).not.toContain(secret);
        }
      }
    }
    // Ids are for whoever has the token.
    expect((await ask(`${base}/readyz`)).body).not.toContain('conn_private');
  });
});

describe('without a token', () => {
  let base: string;
  let port: string;
  beforeAll(async () => {
    base = await start({});
    port = new URL(base).port;
  });

  test.each(GUARDED)('%s answers this machine, under its own names', async (path) => {
    expect(await status(base + path)).toBe(200);
    for (const host of [
      'localhost',
      `localhost:${port}`,
      `127.0.0.1:${port}`,
      '127.0.0.2',
      '[::1]',
      `[::1]:${port}`,
    ]) {
      expect([host, await status(base + path, { host })]).toEqual([host, 200]);
    }
  });

  test.each(GUARDED)(
    '%s answers nobody under another name: a page elsewhere could make a browser ask',
    async (path) => {
      const names = ['rebound.example', `rebound.example:${port}`, 'localhost.example', '127.0.0.1.example'];
      for (const host of [
        ...names,
        'rebound.localhost',
        '0.0.0.0',
        '10.0.0.1',
        '[::1].example',
        'localhost:',
      ]) {
        expect([host, await status(base + path, { host })]).toEqual([host, 403]);
      }
    },
  );

  test('nor a proxy on this machine that says for whom it asks', async () => {
    for (const header of ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip']) {
      for (const path of GUARDED) expect(await status(base + path, { [header]: '198.51.100.7' })).toBe(403);
    }
    const { body } = await ask(`${base}/readyz`, { headers: { 'x-forwarded-for': '198.51.100.7' } });
    expect(body).not.toContain('"behind":[');
  });

  test('nor any other address of this machine, whatever the name', async (context) => {
    const others = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
    const address = others.find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
    context.skip(address === undefined, 'this machine has no address but loopback');
    const elsewhere = `http://${address}:${port}`;
    for (const path of GUARDED) {
      expect(await status(elsewhere + path)).toBe(403);
      expect(await status(elsewhere + path, { host: `localhost:${port}` })).toBe(403);
      const { body } = await ask(elsewhere + path);
      expect(body).toBe('set HTTP_AUTH_TOKEN to open this to other machines\n');
    }
    for (const path of OPEN) expect(await status(elsewhere + path)).toBe(200);
    expect((await ask(`${elsewhere}/readyz`)).body).not.toContain('conn_private');
  });

  test('there is no webhook without its secret', async () => {
    expect(await ask(base + HOOK, { method: 'POST', body: '{}' })).toMatchObject({ status: 404 });
  });

  test('a second daemon on the same port says so and ends with 1', async () => {
    const env = { ...quickSettings(database.url, simulator.url), HTTP_PORT: port };
    const { status: exit, stderr } = await runCli(['run'], env);
    expect(exit).toBe(1);
    expect(stderr).toContain(`cannot listen on HTTP_HOST 127.0.0.1, HTTP_PORT ${port} (EADDRINUSE)`);
  });
});
