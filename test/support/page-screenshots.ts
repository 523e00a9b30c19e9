/**
 * Takes the pictures of the page that the README shows, of a simulated world: `node test/support/page-screenshots.ts`.
 * The hour before it began is made up, since nobody waits for one.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { sql } from 'kysely';
import type { Browser } from 'playwright-core';
import { startSimulator } from '../../src/simulator/server.ts';
import { openDatabase } from '../../src/store/database.ts';
import { openBrowser } from './browser.ts';
import { runCli, startCli } from './cli.ts';
import { httpOf } from './daemons.ts';
import { readiness } from './http.ts';
import { startOwnPostgres } from './own-postgres.ts';
import { quickSettings } from './replica.ts';
import { waitFor } from './wait.ts';

const FOLDER = path.join(import.meta.dirname, '../../docs/images');
const PICTURES = [
  { name: 'page-light', colorScheme: 'light', width: 1040, height: 720 },
  { name: 'page-dark', colorScheme: 'dark', width: 1040, height: 720 },
  { name: 'page-phone', colorScheme: 'light', width: 360, height: 780 },
] as const;

const IDS = ['conn_sales_berlin', 'conn_sales_madrid', 'conn_support', 'conn_workshop', 'conn_old_shop'];
const simulator = await startSimulator({ messages: 60_000, connections: IDS });
const server = await startOwnPostgres();
const env = {
  ...quickSettings(server.url, simulator.url),
  HTTP_PORT: '0',
  POLL_INTERVAL: '2s',
  POLL_INTERVAL_IDLE: '2s',
  LEASE_TTL: '30s',
  BACKOFF_MAX: '1m',
  REQUEST_RATE: '1000',
  VERIFY_RATE: '1000',
  VERIFY_CRON: 'off',
};
const daemon = startCli(['run'], env);
const db = openDatabase({
  url: server.url,
  schema: 'whatsapp',
  poolSize: 1,
  applicationName: 'pictures',
  onIdleError: () => {},
});
let browser: Browser | undefined;
try {
  const base = await httpOf(daemon);
  simulator.faults.script({ kind: 'slow', delayMs: 3_000 }, 1_000, {
    route: 'sync',
    connection: 'conn_workshop',
  });
  const live = () => sql`select from whatsapp.sync_state where caught_up_at is not null`.execute(db);
  await readiness(base, { status: 200, says: '"current":5' }, {}, 60_000);
  await waitFor(async () => (await live()).rows.length === 4, { what: 'the backlog', deadlineMs: 60_000 });
  // Before the ledger is made up.
  const verified = IDS.filter((id) => id !== 'conn_workshop').flatMap((id) => ['--connection', id]);
  const { status, stderr } = await runCli(['verify', ...verified], env);
  if (status !== 0) throw new Error(`verify ended with ${status}: ${stderr}`);
  await sql`update whatsapp.sync_pages set applied_at = now() - interval '3 hours'
    where connection_id <> 'conn_workshop'`.execute(db);
  await sql`update whatsapp.verifications set finished_at = now() - interval '13 hours'`.execute(db);
  await sql`insert into whatsapp.sync_pages (connection_id, messages, applied_at)
    select c, (random() * random() * 60 + 8 * (1 + sin(minute / 7.0 + length(c))))::integer,
      now() - make_interval(mins => minute)
    from unnest(array['conn_sales_berlin', 'conn_sales_madrid', 'conn_support']) c, generate_series(2, 59) minute`.execute(
    db,
  );
  simulator.world.connection('conn_old_shop').state.paired = false;
  simulator.world.connection('conn_support').injectRaw('message', '{"message_id":""}');
  simulator.startTraffic({ changesPerSecond: 3 });
  await readiness(base, { status: 200, says: '"parked":1' });
  const parked = () => sql`select from whatsapp.sync_state where last_error_kind = 'not_paired'`.execute(db);
  await waitFor(async () => (await parked()).rows.length === 1, { what: 'the failure to be stored' });
  // As if nobody had paired it again for more than two weeks.
  await sql`update whatsapp.sync_state set caught_up_at = now() - interval '17 days 5 hours', consecutive_failures = 4980
    where connection_id = 'conn_old_shop'`.execute(db);
  await waitFor(async () => (await fetch(base).then((page) => page.text())).includes('1 in quarantine<br>'), {
    what: 'the bad record',
  });
  mkdirSync(FOLDER, { recursive: true });
  browser = await openBrowser();
  for (const { name, colorScheme, width, height } of PICTURES) {
    const page = await browser.newPage({ colorScheme, viewport: { width, height } });
    await page.goto(base);
    await page.screenshot({ path: path.join(FOLDER, `${name}.png`) });
    await page.close();
  }
} finally {
  await browser?.close();
  await daemon.kill('SIGKILL');
  await db.destroy();
  await server.destroy();
  await simulator.close();
}
