import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { cutBytes } from '../lib/text.ts';
import { type ConnectionId, type Kind, MAX_RECORD_ID_BYTES, type Reject } from '../model.ts';
import type { Db } from './database.ts';

/* What the quarantine knows of records that are not in the tables, for whoever misses them there. */

/** SQL, of an entry that somebody discarded: whether Postgres refused it. What our own checks refused is not what has
 * passed them now. */
const REFUSED_BY_POSTGRES = sql.raw(`error_code ~ '^[0-9A-Z]{5}$'`);

/**
 * Which of these records, which have passed the checks, were put aside in their version or a newer one, and neither
 * retried nor replaced since.
 * @param records with a version below 0 where they have none of their own: no good one closes what was discarded.
 * @returns their ids.
 */
export async function putAside(
  db: Db,
  connectionId: ConnectionId,
  numbering: number,
  kind: Kind,
  records: readonly { readonly id: string; readonly version: string }[],
): Promise<ReadonlySet<string>> {
  const asked = records.map(({ id, version }) => ({ id, version, cut: cutBytes(id, MAX_RECORD_ID_BYTES) }));
  const { rows } = await sql<{ id: string }>`
    select distinct r.id
    from json_to_recordset(${JSON.stringify(asked)}::json) as r (id text, version bigint, cut text)
    join ${sql.table('quarantine')} q on q.connection_id = ${connectionId} and q.kind = ${kind}
      and q.record_id = r.cut and (q.numbering, q.version) >= (${numbering}::integer, r.version)
    where q.resolution is null
      or q.resolution = 'discarded' and (r.version >= 0 or q.${REFUSED_BY_POSTGRES})`.execute(db);
  return new Set(rows.map((row) => row.id));
}

/** The participants, of those that have passed the checks, that were put aside and are not stored, as
 * `conversation_id jid` with the JID cut as the quarantine cuts it. */
export async function membersPutAside(
  db: Db,
  connectionId: ConnectionId,
  conversationIds: readonly string[],
): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ member: string }>`
    select distinct conversation_id || ' ' || record_id as member from ${sql.table('quarantine')} q
    where connection_id = ${connectionId} and kind = 'participant' and record_id is not null
      and conversation_id = any(${[...conversationIds]}::text[])
      and (resolution is null or resolution = 'discarded' and ${REFUSED_BY_POSTGRES})
      and not exists (select from ${sql.table('conversation_participants')} p
        where p.connection_id = q.connection_id and p.conversation_id = q.conversation_id
          and p.participant_jid = q.record_id)`.execute(db);
  return new Set(rows.map((row) => row.member));
}

/** Those of these bad records of which the quarantine has never heard; of a participant, in its own conversation. */
export async function neverPutAside(
  db: Db,
  connectionId: ConnectionId,
  rejects: readonly Reject[],
): Promise<Reject[]> {
  const asked = rejects.map(({ kind, recordId, conversationId, json }, place) => {
    const hash = createHash('sha256').update(json).digest('hex');
    return { place, kind, id: recordId, hash, within: kind === 'participant' ? conversationId : null };
  });
  const { rows } = await sql<{ place: number }>`
    select distinct r.place
    from json_to_recordset(${JSON.stringify(asked)}::json) as r (place integer, kind text, id text, hash text, within text)
    join ${sql.table('quarantine')} q on q.connection_id = ${connectionId} and q.kind = r.kind
      and (q.record_id = r.id or q.record_sha256 = r.hash)
      and (r.within is null or q.conversation_id = r.within)`.execute(db);
  const known = new Set(rows.map((row) => row.place));
  return rejects.filter((_, place) => !known.has(place));
}
