/**
 * Fetch, then write, then fetch: one connection's backlog by the daemon's own parts, without anything of its loop.
 * Told by the environment; says `ready`, begins at the first message, and ends when there is nothing more.
 */
import type { Cursor } from '../../src/model.ts';
import { ensureConnections } from '../../src/store/connections.ts';
import { openDatabase } from '../../src/store/database.ts';
import { claimLeases } from '../../src/store/leases.ts';
import { apply } from '../../src/sync/apply.ts';
import { pack } from '../../src/sync/packing.ts';
import { fixedKey } from '../../src/upstream/api-key.ts';
import { UpstreamClient } from '../../src/upstream/client.ts';
import { readPage } from '../../src/upstream/page.ts';
import { SCHEMA } from './postgres.ts';

const { DATABASE_URL, WHATSAPP_USE_API_KEY, WHATSAPP_USE_BASE_URL, PAGE_LIMIT, CONNECTION_ID } = process.env;
const id = CONNECTION_ID!;
const key = fixedKey(WHATSAPP_USE_API_KEY!);
const leaseTtl = 600_000;
const db = openDatabase({
  url: DATABASE_URL,
  schema: SCHEMA,
  poolSize: 2,
  applicationName: 'wa-replica bench sequential',
  onIdleError: () => {},
});
const upstream = new UpstreamClient({
  baseUrl: new URL(WHATSAPP_USE_BASE_URL!),
  requestTimeout: 30_000,
  maxSockets: 8,
  userAgent: 'wa-replica bench',
});
const context = {
  db,
  worker: 'sequential',
  leaseTtl,
  window: 30 * 86_400_000,
  limits: { statementTimeout: 20_000, idleTimeout: 20_000 },
  history: { on: true, deletedMessages: 'keep' as const },
  changes: true,
  forgetting: { key: undefined, retain: undefined },
  media: false,
  reached: () => {},
};
await ensureConnections(db, [id]);
const [lease] = await claimLeases(db, 'sequential', [id], leaseTtl, 1);
const { signal } = new AbortController();

process.once('message', async () => {
  let cursor: Cursor = lease!.cursor;
  for (let more = true; more; ) {
    const requestedAt = performance.now();
    const body = await upstream.fetchPage(key, id, cursor, Number(PAGE_LIMIT), () => true, signal);
    const page = readPage(body, cursor);
    const plan = { requestedAt, nextPollIn: () => 600_000 };
    const applied = await apply(context, id, { ...lease!, cursor }, page, pack(page).changes, plan);
    if (!applied.done) throw new Error('the page was fenced');
    cursor = page.cursor;
    more = page.hasMore;
  }
});
process.on('disconnect', () => process.exit(0));
process.send!('ready');
