import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import { startCli } from '../support/cli.ts';
import { openTestDatabase, useTestDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

const database = useTestDatabase();
let simulator: Simulator;
beforeAll(async () => {
  simulator = await startSimulator({ messages: 300, connections: 1 });
});
afterAll(() => simulator.close());

/** Words that nothing but the records hold. */
const MARKERS = {
  body: 'zanzibar-body',
  name: 'Zanzibar Name',
  phone: '+49151999888777',
  jid: '49151999888777',
};

test('nothing of a record, a key or a password is in the logs, whatever fails (R18)', async () => {
  const [connection] = [...simulator.world.connections.values()];
  connection!.injectRaw(
    'contact',
    `{"person_id":"p","display_name":"${MARKERS.name}","phone_e164":"${MARKERS.phone}"}`,
  );
  connection!.injectRaw(
    'message',
    (seq) => `{"message_id":"m","conversation_id":"c","body":"${MARKERS.body}","seq":${seq}}`,
  );
  // Bad ones too: what is refused is not quoted either.
  connection!.injectRaw('message', `{"message_id":"","body":"${MARKERS.body}"}`);
  connection!.injectRaw('message', `{"message_id":"t","sent_at":"${MARKERS.body}"}`);
  connection!.injectRaw('contact', `{"person_id":7,"phone_jid":"${MARKERS.jid}@s.whatsapp.net"}`);
  const bodies = ['{"error":"zanzibar-body"}', '<html>zanzibar-body</html>', '{"messages": "zanzibar-body"}'];
  for (const [i, status] of [400, 401, 402, 403, 404, 409, 429, 500, 502, 503, 200, 200, 200].entries()) {
    simulator.faults.script({ kind: 'answer', status, body: bodies[i % 3]! }, 1, { route: 'sync' });
  }
  for (const kind of ['drop', 'cut', 'truncate', 'html'] as const)
    simulator.faults.script({ kind }, 1, { route: 'sync' });
  const key = 'pa_live_simulated';
  const password = new URL(database.url).password;
  const daemon = startCli(['run'], {
    ...quickSettings(database.url, simulator.url),
    LOG_LEVEL: 'debug',
    BACKOFF_MIN: '1ms',
    BACKOFF_MAX: '5ms',
  });
  const db = openTestDatabase(database.url);
  await waitFor(() => simulator.faults.scripted === 0, { what: 'every fault to be met' });
  await waitFor(async () => (await database.query('select from whatsapp.quarantine')).length === 3, {
    what: 'the bad records',
  });
  // An error of Postgres that would quote a value.
  await database.query(
    `alter table whatsapp.messages add constraint no_zanzibar check (body <> 'zanzibar-later')`,
  );
  connection!.injectRaw(
    'message',
    (seq) => `{"message_id":"n","conversation_id":"c","body":"zanzibar-later","seq":${seq}}`,
  );
  await waitFor(() => daemon.stderr.includes('23514'), { what: 'the refusal of Postgres' });
  await database.query('alter table whatsapp.messages drop constraint no_zanzibar');
  await waitFor(
    async () => (await database.query(`select from whatsapp.messages where message_id = 'n'`)).length === 1,
    {
      what: 'the row that was refused',
    },
  );
  expect(await daemon.kill('SIGTERM')).toBe(0);
  await db.destroy();
  const state = JSON.stringify(await database.query('select last_error from whatsapp.sync_state'));
  for (const secret of [...Object.values(MARKERS), 'zanzibar', key, password].filter((one) => one !== '')) {
    expect(daemon.stderr.includes(secret), `"${secret.slice(0, 4)}…" in the log`).toBe(false);
    expect(daemon.stdout + state).not.toContain(secret);
  }
  // The faults were really told of.
  for (const kind of ['unauthorized', 'payment_required', 'not_ready', 'protocol', 'network', 'database']) {
    expect(daemon.stderr).toContain(`"kind":"${kind}"`);
  }
});

test.each([
  ['throws', 'throw error'],
  ['rejects', 'void Promise.reject(error)'],
])('a fault that nobody catches ends the process with its place, not its text: what %s', async (_, fault) => {
  const code = `const error = new TypeError('${MARKERS.body}'); process.on('SIGUSR2', () => { ${fault}; });`;
  const daemon = startCli(['run'], {
    ...quickSettings(database.url, simulator.url),
    NODE_OPTIONS: `--import=data:text/javascript;base64,${Buffer.from(code).toString('base64')}`,
  });
  await daemon.logged('replicating');
  expect(await daemon.kill('SIGUSR2')).toBe(1);
  expect(daemon.stderr).toMatch(
    /^wa-replica: internal error: \{"kind":"internal","error":"TypeError","at":\[".+\n$/m,
  );
  expect(daemon.stderr).not.toContain(MARKERS.body);
});

test('the comparison that other tests rely on does find differences', async () => {
  const db = openTestDatabase(database.url);
  await database.query(`update whatsapp.messages set body = body || '!' where message_id =
    (select message_id from whatsapp.messages where body is not null and message_id <> 'm' order by 1 limit 1)`);
  await database.query(`delete from whatsapp.conversation_participants`);
  const differences = await differencesFromTruth(db, simulator);
  await db.destroy();
  expect(differences.join('\n')).toMatch(/body is/);
  expect(differences.join('\n')).toMatch(/participants is/);
  expect(await readFile(new URL('../../package.json', import.meta.url), 'utf8')).toContain('wa-replica');
});
