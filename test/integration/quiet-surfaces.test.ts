import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Connection } from '../../src/simulator/connection.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { type CliProcess, runSeveral, startCli } from '../support/cli.ts';
import { httpOf } from '../support/daemons.ts';
import { useTestDatabase } from '../support/database.ts';
import { ask, bearer, readiness } from '../support/http.ts';
import { quickSettings } from '../support/replica.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

/* R18 once more, for what quiet.test.ts does not look at: what is served, printed and answered. */

const KEY = 'pa_live_zanzibar_key';
const TOKEN = 'zanzibar-token';
const HOOK_SECRET = 'whsec_zanzibar';
const PASSWORD = 'zanzibar-password';
/** Words that nothing but records and secrets hold. */
const BODY = 'zanzibar-body';
const PHONE = '49151999888777';

const database = useTestDatabase();
let simulator: Simulator;
let connection: Connection;
let proxy: TcpProxy;
let env: Record<string, string>;
let daemon: CliProcess;
let base: string;

/** Everything that was said, by where. */
const said = new Map<string, string>();

beforeAll(async () => {
  simulator = await startSimulator({ messages: 100, connections: ['conn_a', 'conn_b'], apiKey: KEY });
  connection = simulator.world.connection('conn_a');
  const url = new URL(database.url);
  proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port) });
  url.port = String(proxy.port);
  env = {
    ...quickSettings(url.href, simulator.url),
    WHATSAPP_USE_API_KEY: KEY,
    HTTP_PORT: '0',
    HTTP_AUTH_TOKEN: TOKEN,
    WEBHOOK_SECRET: HOOK_SECRET,
    LOG_LEVEL: 'debug',
    READY_MAX_LAG: '1s',
    BACKOFF_MAX: '50ms',
  };
  daemon = startCli(['run'], env);
  base = await httpOf(daemon);
  await readiness(base, { status: 200, says: '"current":2' });
});
afterAll(async () => {
  await daemon.kill('SIGKILL');
  await proxy.close();
  await simulator.close();
});

/** Looks at everything that is served, and runs every command that tells of the state. */
async function lookAround(when: string): Promise<void> {
  for (const headers of [{}, bearer(TOKEN), bearer('zanzibar-guess')]) {
    for (const path of ['/', '/status', '/metrics', '/readyz', '/healthz', '/nowhere', '/%7Bzanzibar']) {
      const answer = await ask(base + path, { headers });
      said.set(`${when}: GET ${path}`, `${said.get(`${when}: GET ${path}`) ?? ''}${JSON.stringify(answer)}`);
    }
  }
  await runAll(when, ['status', 'status --json', 'doctor', 'quarantine list', 'migrate --status'], env);
}

/** Runs commands and keeps what they say. */
async function runAll(
  when: string,
  commands: readonly string[],
  given: Record<string, string>,
): Promise<number[]> {
  const { ended, output } = await runSeveral(commands, given);
  for (const [i, { stdout, stderr }] of ended.entries()) said.set(`${when}: ${commands[i]}`, stdout + stderr);
  said.set(`${when}: all of the process`, output);
  return ended.map(({ status }) => status);
}

function expectQuiet(): void {
  const ours = new URL(database.url).password;
  const words = ['zanzibar', PHONE, connection.jid.split('@')[0] ?? '', ours].filter((word) => word !== '');
  for (const [where, text] of [...said, ['the log', daemon.stderr + daemon.stdout]] as [string, string][]) {
    // What was asked for by name is not told by us.
    const found = words.filter((word) => text.toLowerCase().includes(word.toLowerCase()));
    expect([where, found.map((word) => `${word.slice(0, 4)}…`)]).toEqual([where, []]);
  }
}

const send = async (body: string, signature: string) => {
  const headers = { 'x-whatsapp-use-signature': signature, 'content-type': 'application/json' };
  return await ask(`${base}/webhooks/whatsapp-use`, { method: 'POST', headers, body });
};
function signed(body: string, secret = HOOK_SECRET): string {
  const t = Math.floor(Date.now() / 1000);
  return `t=${t},v1=${createHmac('sha256', secret).update(`${t}.${body}`).digest('hex')}`;
}

describe('no surface tells a secret or what is in a record', () => {
  test('while records come, good and bad', async () => {
    connection.injectRaw(
      'contact',
      `{"person_id":"p","display_name":"Zanzibar Name","phone_e164":"+${PHONE}"}`,
    );
    connection.injectRaw('conversation', (seq) => `{"conversation_id":"c","subject":"${BODY}","seq":${seq}}`);
    connection.injectRaw(
      'message',
      (seq) => `{"message_id":"m","conversation_id":"c","body":"${BODY}","seq":${seq}}`,
    );
    connection.injectRaw('message', `{"message_id":"","body":"${BODY}"}`);
    connection.injectRaw('message', `{"message_id":"t","sent_at":"${BODY}"}`);
    connection.injectRaw('contact', `{"person_id":7,"phone_jid":"${PHONE}@s.whatsapp.net"}`);
    const open = () => database.query('select from whatsapp.quarantine where resolved_at is null');
    await waitFor(async () => (await open()).length === 3, { what: 'the bad records' });
    await lookAround('replicating');
    expect(said.get('replicating: quarantine list')).toContain('message');
    expect(said.get('replicating: GET /')).toContain('3 in quarantine');
    expectQuiet();
  });

  test('while the upstream refuses, and quotes the key and a name', async () => {
    const quote = JSON.stringify({ error: `key ${KEY} of Zanzibar Name, +${PHONE}` });
    for (const status of [401, 402, 403, 404, 409, 429, 500]) {
      const headers = { location: `https://elsewhere.example/?key=${KEY}`, 'retry-after': 'zanzibar' };
      simulator.faults.script({ kind: 'answer', status, body: quote, headers }, 3, { route: 'sync' });
    }
    await waitFor(() => simulator.faults.scripted === 0, { what: 'every refusal' });
    for (const status of [302, 401]) {
      const headers = { location: `https://elsewhere.example/?key=${KEY}` };
      const before = daemon.stderr.length;
      simulator.faults.script({ kind: 'answer', status, body: quote, headers }, 10_000);
      await waitFor(() => daemon.stderr.slice(before).includes(`HTTP ${status}`), { what: `the ${status}` });
      await lookAround(`refused with ${status}`);
      simulator.faults.clear();
    }
    expect(said.get('refused with 401: doctor')).toContain('GET /v1/me answers 401');
    expect(said.get('refused with 401: GET /readyz')).toContain('unauthorized');
    expectQuiet();
  });

  test('while Postgres refuses a row, and would quote it', async () => {
    await database.query(
      `alter table whatsapp.messages add constraint no_zanzibar check (body <> 'zanzibar-later')`,
    );
    connection.injectRaw(
      'message',
      (seq) => `{"message_id":"n","conversation_id":"c","body":"zanzibar-later","seq":${seq}}`,
    );
    await waitFor(() => daemon.stderr.includes('23514'), { what: 'the refusal' });
    // It is noted after it was told of.
    const noted = `select from whatsapp.sync_state where last_error like '%23514'`;
    await waitFor(async () => (await database.query(noted)).length > 0, { what: 'the failure to be noted' });
    await lookAround('a row refused');
    expect(said.get('a row refused: GET /')).toContain('database: writing a page: 23514');
    await database.query('alter table whatsapp.messages drop constraint no_zanzibar');
    expectQuiet();
  });

  test('by what a webhook answers, and by what is logged of it', async () => {
    const body = JSON.stringify({
      connection_id: 'conn_a',
      message: { body: BODY, from: PHONE, name: 'Zanzibar Name' },
    });
    const answers = [
      await send(body, signed(body)),
      await send(body, signed(body, 'whsec_zanzibar_other')),
      await send(body, `t=${BODY},v1=${HOOK_SECRET}`),
      await send(body, ''),
      await send(`{"connection_id":"${BODY}"`, signed(`{"connection_id":"${BODY}"`)),
      await send(`{"connection_id":"${BODY}"}`, signed(`{"connection_id":"${BODY}"}`)),
      await send('zanzibar'.repeat(200_000), signed('zanzibar')),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 401, 401, 401, 200, 200, 413]);
    said.set('webhooks', JSON.stringify(answers));
    await daemon.logged('webhook refused');
    expectQuiet();
  });

  test('while Postgres is out of reach, its URL with a password in every hand', async () => {
    await proxy.refuse();
    proxy.cut();
    await readiness(base, { status: 503 });
    await lookAround('outage');
    const body = '{"connection_id":"conn_b"}';
    said.set('webhook in an outage', JSON.stringify(await send(body, signed(body))));
    expect(said.get('outage: status')).toContain('ECONNREFUSED');
    await proxy.heal();
    await readiness(base, { status: 200 }, {}, 30_000);
    expectQuiet();
  });

  test('with a password that is wrong, and a key, a token and a URL that are not well-formed', async () => {
    const url = Object.assign(new URL(database.url), { username: 'zanzibar_user', password: PASSWORD }).href;
    for (const [what, more] of Object.entries({
      'a wrong password': { DATABASE_URL: url },
      'no URL': { DATABASE_URL: `postgres//user:${PASSWORD}@host/db` },
      'a key with a line end': { WHATSAPP_USE_API_KEY: `${KEY}\nzanzibar` },
      'a misspelled name': { WHATSAPP_USE_APIKEY: KEY, WA_REPLICA_TOKEN: TOKEN },
      'a file that is not there': { HTTP_AUTH_TOKEN: '', HTTP_AUTH_TOKEN_FILE: '/nowhere' },
    })) {
      const given: Record<string, string> = { ...env, ...more, HTTP_PORT: 'off' };
      if (given.HTTP_AUTH_TOKEN_FILE !== undefined) delete given.HTTP_AUTH_TOKEN;
      const oddKey = what.startsWith('a key');
      // A key that is odd, but usable as far as can be seen, would run on.
      const commands = oddKey ? ['doctor', 'status'] : ['doctor', 'status', 'run'];
      const statuses = await runAll(what, commands, given);
      if (!oddKey) expect([what, statuses.includes(0)]).toEqual([what, false]);
    }
    expectQuiet();
  });
});
