import { sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';
import { interval } from './interval.ts';

/* Which files of the archive somebody refers to. Files are shared by content: across messages, and across connections. */

/** SQL: whether any row refers to a location, or is about to. */
function referred(location: string): string {
  return `(m.location = ${location} or m.writing = ${location})`;
}

/**
 * Takes the attachments of these messages out of the archive, in the caller's transaction, which holds the lock of the
 * connection's state row. Their files are still there: after the commit, hand what is returned to `removeFiles` of
 * `media/removal.ts`. If that is never done, the sweep does it.
 * @returns the locations that nothing refers to any more.
 */
export async function removeMedia(
  db: Db,
  connectionId: ConnectionId,
  messageIds: readonly string[],
): Promise<string[]> {
  const table = sql.table('media');
  const ids = sql`${[...messageIds]}::text[]`;
  const { rows } = await sql<{ location: string }>`
    with gone as (
      delete from ${table} where connection_id = ${connectionId} and message_id = any(${ids})
      returning location, writing
    )
    select distinct l.location from gone g cross join lateral (values (g.location), (g.writing)) l (location)
    where l.location is not null and not exists (
      -- What this statement deletes it still sees.
      select from ${table} m where ${sql.raw(referred('l.location'))}
        and not (m.connection_id = ${connectionId} and m.message_id = any(${ids}))
    ) order by 1`.execute(db);
  return rows.map((row) => row.location);
}

/** Whether any row refers to a file whose location begins with this. */
export async function hasFilesUnder(db: Db, root: string): Promise<boolean> {
  const { rows } = await sql<{ found: boolean }>`
    select exists (select from ${sql.table('media')} where starts_with(location, ${root})) as found`.execute(
    db,
  );
  return rows[0]!.found;
}

/** Of these locations, those that nothing refers to. */
export async function unreferredAmong(db: Db, locations: readonly string[]): Promise<string[]> {
  const { rows } = await sql<{ location: string }>`
    select l.location from unnest(${[...locations]}::text[]) as l (location)
    where not exists (select from ${sql.table('media')} m where ${sql.raw(referred('l.location'))})`.execute(
    db,
  );
  return rows.map((row) => row.location);
}

/**
 * Has files fetched again that were removed while a download came to refer to them. Whoever removes files calls it
 * after that: a download notes where it will write before it looks what is there, so that it is found here, or comes
 * so late that it writes the file itself. The file that such a download was to replace stays.
 * @returns how many attachments are fetched again.
 */
export async function refetchRemoved(db: Db, locations: readonly string[]): Promise<number> {
  const removed = sql`any(${[...locations]}::text[])`;
  const unlessRemoved = (column: string) =>
    sql`${sql.ref(column)} = case when m.location = ${removed} then null else m.${sql.ref(column)} end`;
  const { numAffectedRows } = await sql`
    update ${sql.table('media')} m set state = 'pending', next_try_at = now(), claimed_by = null, claimed_until = null,
      writing = null, ${sql.join(['location', 'sha256', 'bytes', 'stored_at'].map(unlessRemoved))}
    where m.location = ${removed} or m.writing = ${removed}`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/** A stored attachment, and where its file should be. */
export interface StoredAt {
  readonly connection_id: ConnectionId;
  readonly message_id: string;
  readonly location: string;
}

/**
 * Stored attachments that the upstream still serves, in the order of their keys.
 * @param window how long it serves a message, in milliseconds. @param after the last one seen. @param most how many.
 */
export async function storedAttachments(
  db: Db,
  window: number,
  after: Pick<StoredAt, 'connection_id' | 'message_id'> | undefined,
  most: number,
): Promise<StoredAt[]> {
  const { connection_id: connectionId = '', message_id: messageId = '' } = after ?? {};
  const { rows } = await sql<StoredAt>`
    select connection_id, message_id, location from ${sql.table('media')}
    where state = 'stored' and location is not null and sent_at > now() - ${interval(window)}
      and (connection_id, message_id) > (${connectionId}, ${messageId})
    order by connection_id, message_id limit ${most}`.execute(db);
  return rows;
}

/** Has attachments fetched again whose files are not where they should be. One that has changed since is left alone.
 * @returns how many. */
export async function refetchLost(db: Db, lost: readonly StoredAt[]): Promise<number> {
  const column = (pick: (one: StoredAt) => string) => sql`${lost.map(pick)}::text[]`;
  const { numAffectedRows } = await sql`
    update ${sql.table('media')} m set state = 'pending', attempts = 0, next_try_at = now(), location = null,
      sha256 = null, bytes = null, stored_at = null
    from unnest(${column((one) => one.connection_id)}, ${column((one) => one.message_id)},
      ${column((one) => one.location)}) as l (connection_id, message_id, location)
    where m.connection_id = l.connection_id and m.message_id = l.message_id and m.location = l.location
      and m.state = 'stored'`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/** Where a message's attachment is, by connection. */
export interface MediaPlace {
  readonly connection_id: ConnectionId;
  readonly state: string;
  readonly location: string | null;
  readonly error: string | null;
}

/** @param connectionId of this connection; of all where undefined. */
export async function placesOf(
  db: Db,
  messageId: string,
  connectionId: string | undefined,
): Promise<MediaPlace[]> {
  let query = db
    .selectFrom('media')
    .select(['connection_id', 'state', 'location', 'error'])
    .where('message_id', '=', messageId)
    .orderBy('connection_id');
  if (connectionId !== undefined) query = query.where('connection_id', '=', connectionId);
  return await query.execute();
}

/**
 * What tells this replica's database from every other: when its first migration ran. It moves along with a dump.
 * A copy of the database has the same, and must not share a store with it.
 */
export async function replicaIdentity(db: Db, schema: string): Promise<string> {
  const first = await db
    .selectFrom('kysely_migration')
    .select('timestamp')
    .orderBy('name')
    .limit(1)
    .executeTakeFirst();
  return `${schema} ${first?.timestamp ?? ''}`;
}
