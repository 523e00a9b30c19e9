import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { type Database, TABLES } from './schema.ts';

/** A connection as it is known here. */
export interface KnownConnection {
  readonly connectionId: ConnectionId;
  readonly jid: string | null;
  readonly removed: boolean;
}

/** Makes connections known: their row and their state, at cursor 0. Those that are known stay as they are, but for
 * one that was removed and is listed again: it is replicated again from where it stood. In one order for all who do, since
 * a conflict locks the row: several daemons look at once. */
export async function ensureConnections(db: Db, connectionIds: readonly ConnectionId[]): Promise<void> {
  const ids = sql`select id from unnest(${[...connectionIds]}::text[]) as id order by id`;
  await sql`with known as (
      insert into ${sql.table('connections')} as c (connection_id) ${ids}
      on conflict (connection_id) do update set removed_at = null where c.removed_at is not null
    )
    insert into ${sql.table('sync_state')} (connection_id) ${ids}
    on conflict (connection_id) do nothing`.execute(db);
}

/** Marks connections as removed; their data stays.
 * @returns those that were not marked before. */
export async function markRemoved(db: Db, connectionIds: readonly ConnectionId[]): Promise<ConnectionId[]> {
  if (connectionIds.length === 0) return [];
  const rows = await db
    .updateTable('connections')
    .set({ removed_at: sql`now()` })
    .where('connection_id', 'in', [...connectionIds])
    .where('removed_at', 'is', null)
    .returning('connection_id')
    .execute();
  return rows.map((row) => row.connection_id);
}

/** Notes what the upstream says of a connection's pairing. */
export async function notePairing(
  db: Db,
  connectionId: ConnectionId,
  status: { jid: string | null; paired: boolean | null; connected: boolean | null },
): Promise<void> {
  const { jid, paired, connected } = status;
  await sql`update ${sql.table('connections')} set
      jid = coalesce(${jid}::text, jid), paired = ${paired}::boolean, connected = ${connected}::boolean
    where connection_id = ${connectionId}
      and (coalesce(${jid}::text, jid), ${paired}::boolean, ${connected}::boolean)
        is distinct from (jid, paired, connected)`.execute(db);
}

/** All known connections, in order. */
export async function knownConnections(db: Db): Promise<KnownConnection[]> {
  const rows = await db
    .selectFrom('connections')
    .select(['connection_id', 'jid', 'removed_at'])
    .orderBy('connection_id')
    .execute();
  return rows.map((row) => ({
    connectionId: row.connection_id,
    jid: row.jid,
    removed: row.removed_at !== null,
  }));
}

/** The tables whose rows belong to a connection. */
const OWNED = [...TABLES].filter(
  (table) => !['workers', 'change_consumers', 'crm_links', 'kysely_migration'].includes(table),
);

/**
 * Gives a connection another id, in every table (R21). Whoever holds its lease is fenced: its row is gone. Does
 * nothing where the new id is known already.
 * @returns whether it was renamed.
 */
export async function renameConnection(db: Db, from: ConnectionId, to: ConnectionId): Promise<boolean> {
  const taken = await sql`select from ${sql.table('connections')} where connection_id = ${to}`.execute(db);
  if (taken.rows.length > 0) return false;
  for (const table of OWNED) {
    await sql`update ${sql.table(table as keyof Database)} set connection_id = ${to}
      where connection_id = ${from}`.execute(db);
  }
  // Nobody has a loop under the new id; whoever gets it need not wait for the lease to run out.
  await sql`update ${sql.table('sync_state')} set lease_owner = null, lease_expires_at = null
    where connection_id = ${to}`.execute(db);
  return true;
}

/** Rows that a connection may have before its first page, and that say nothing of what is stored of it. */
const BEFORE_PAGES: readonly string[] = [
  'connections',
  'sync_state',
  'upkeep',
  'verifications',
  'change_positions',
];

/**
 * Makes connections known in place of one of which no page was ever stored. Each may be that one: what it lacks is missing
 * since then (R17). Whoever holds the lease of the old one is fenced: its row is gone.
 * @returns whether that was so; else nothing is done.
 */
export async function beginInstead(
  db: Db,
  unbegun: ConnectionId,
  connectionIds: readonly ConnectionId[],
): Promise<boolean> {
  const others = OWNED.filter((table) => !BEFORE_PAGES.includes(table));
  const { rows } = await sql<{ since: string }>`
    select c.discovered_at::text as since from ${sql.table('sync_state')} s
    join ${sql.table('connections')} c using (connection_id)
    where s.connection_id = ${unbegun} and s.epoch = 1 and s.cursor = 0
      and s.caught_up_at is null and s.last_changed_at is null
      and ${sql.join(others.map(hasNone(unbegun)), sql` and `)}
    for update of s`.execute(db);
  const since = rows[0]?.since;
  if (since === undefined) return false;
  for (const table of BEFORE_PAGES) {
    await sql`delete from ${sql.table(table as keyof Database)} where connection_id = ${unbegun}`.execute(db);
  }
  await ensureConnections(db, connectionIds);
  await sql`update ${sql.table('connections')} set discovered_at = ${since}::timestamptz
    where connection_id = any(${[...connectionIds]}::text[]) and discovered_at > ${since}::timestamptz`.execute(
    db,
  );
  return true;
}

const hasNone = (connectionId: ConnectionId) => (table: string) =>
  sql`not exists (select from ${sql.table(table as keyof Database)} where connection_id = ${connectionId})`;
