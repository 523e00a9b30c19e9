import { Writable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { upkeepJobs } from '../../src/cli/jobs.ts';
import { loadSettings } from '../../src/config/load.ts';
import { createLogger } from '../../src/ops/logger.ts';
import { assemble } from '../../src/replica/replica.ts';
import { startSimulator } from '../../src/simulator/server.ts';
import { runCommand } from '../support/command.ts';
import { useTestDatabase } from '../support/database.ts';
import { logLines } from '../support/log-lines.ts';
import { quickSettings } from '../support/replica.ts';

const database = useTestDatabase({ migrated: true });

test("the daemon's jobs tell of what there was to do, and of nothing else", async () => {
  let logged = '';
  const stream = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  const env = { ...quickSettings(database.url, 'http://127.0.0.1:9'), RETAIN_MESSAGES: '60d' };
  const { settings } = loadSettings(env, { database: true, upstream: true });
  const replica = assemble({ settings, env, listen: () => {}, onIdleError: () => {} });
  onTestFinished(() => replica.close());
  const jobs = upkeepJobs(replica, createLogger({ level: 'info', format: 'json', stream }));
  const { signal } = new AbortController();
  const told = async () => {
    logged = '';
    for (const job of jobs) await (job.each === 'worker' ? job.run(signal) : job.run('a1', signal));
    return logged.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).msg]));
  };
  expect(await told()).toEqual([]);
  await database.query(`
    insert into whatsapp.workers (worker_id, heartbeat_at)
      values ('dead', now() - interval '8 days'), ('alive', now() - interval '6 days');
    insert into whatsapp.sync_state (connection_id, last_change_no) values ('a1', 1);
    insert into whatsapp.changes (connection_id, change_no, at) values ('a1', 1, now() - interval '31 days');
    insert into whatsapp.sync_pages (connection_id, cursor_from, cursor_to, applied_at)
      select 'a1', n, n + 1, date_trunc('day', now() - interval '100 days', 'UTC') from generate_series(0, 1) n;
    insert into whatsapp.messages (connection_id, message_id, sent_at) values ('a1', 'm', now() - interval '61 days')`);
  const done = ['dead workers forgotten', 'ledger folded', 'changes pruned', 'old messages deleted'];
  expect(await told()).toEqual(done);
  expect(await database.query('select worker_id from whatsapp.workers')).toEqual([{ worker_id: 'alive' }]);
  expect(await told()).toEqual([]);
});

test('a connection that goes to another worker while it is verified is verified no further, and not done', async () => {
  const simulator = await startSimulator({ connections: ['conn_a'], messages: 20 });
  onTestFinished(() => simulator.close());
  const env = {
    ...quickSettings(database.url, simulator.url),
    VERIFY_CRON: '* * * * *',
    VERIFY_RATE: '1000',
  };
  expect(await runCommand(['sync'], env)).toMatchObject({ status: 0 });
  const { settings } = loadSettings(env, { database: true, upstream: true });
  // A worker that has not begun holds nothing.
  const replica = assemble({ settings, env, listen: () => {}, onIdleError: () => {} });
  onTestFinished(() => replica.close());
  await replica.discovery.look(new AbortController().signal);
  const { log, lines } = logLines();
  const verify = upkeepJobs(replica, log).find(({ name }) => name === 'verify');
  expect(verify?.each === 'connection' && (await verify.run('conn_a', new AbortController().signal))).toBe(
    false,
  );
  expect(lines).toEqual([]);
  expect(await database.query('select state from whatsapp.verifications')).toEqual([
    { state: 'interrupted' },
  ]);
});
