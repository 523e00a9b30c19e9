import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** Makes connections known: their row and their state, at cursor 0. Those that are known stay as they are. */
export async function ensureConnections(db: Db, connectionIds: readonly ConnectionId[]): Promise<void> {
  const ids = sql`${[...connectionIds]}::text[]`;
  await sql`with known as (
      insert into ${sql.table('connections')} (connection_id) select unnest(${ids})
      on conflict (connection_id) do nothing
    )
    insert into ${sql.table('sync_state')} (connection_id) select unnest(${ids})
    on conflict (connection_id) do nothing`.execute(db);
}

/** Notes what the upstream says of a connection's pairing. */
export async function notePairing(
  db: Db,
  connectionId: ConnectionId,
  status: { jid: string | null; paired: boolean | null; connected: boolean | null },
): Promise<void> {
  await db
    .updateTable('connections')
    .set((eb) => ({
      jid: eb.fn.coalesce(eb.val(status.jid), 'jid'),
      paired: status.paired,
      connected: status.connected,
    }))
    .where('connection_id', '=', connectionId)
    .execute();
}

/** All known connections, in order. */
export async function knownConnections(db: Db): Promise<ConnectionId[]> {
  const rows = await db.selectFrom('connections').select('connection_id').orderBy('connection_id').execute();
  return rows.map((row) => row.connection_id);
}
