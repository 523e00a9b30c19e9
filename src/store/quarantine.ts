import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import type { ConnectionId, Cursor, Kind, Reject } from '../model.ts';
import type { Db } from './database.ts';

/** The page that brought the records. */
export interface Origin {
  readonly connectionId: ConnectionId;
  readonly numbering: number;
  readonly from: Cursor;
  readonly to: Cursor;
}

/**
 * Puts records that cannot be stored aside, whole (R9). An open entry is unique by connection, kind and the
 * bytes' hash: one that comes again counts up. A participant's conversation is kept beside it.
 */
export async function quarantine(db: Db, rejects: readonly Reject[], origin: Origin): Promise<void> {
  // The same bytes twice in one page are one entry; `on conflict` takes a row only once per statement.
  const entries = new Map<string, { row: Record<string, unknown>; times: number }>();
  for (const reject of rejects) {
    const hash = createHash('sha256').update(reject.json).digest('hex');
    const known = entries.get(`${reject.kind} ${hash}`);
    if (known !== undefined) known.times++;
    else entries.set(`${reject.kind} ${hash}`, { row: toRow(reject, hash), times: 1 });
  }
  const rows = [...entries.values()].map(({ row, times }) => JSON.stringify({ ...row, times }));
  // A page of nothing but bad records makes more JSON than came; one parameter must not outgrow a string.
  let chunk: string[] = [];
  let size = 0;
  for (const row of rows) {
    if (size > MOST_JSON) {
      await insert(db, chunk, origin);
      chunk = [];
      size = 0;
    }
    chunk.push(row);
    size += row.length;
  }
  await insert(db, chunk, origin);
}

/** JSON in one statement, in characters; the last row may go beyond. */
const MOST_JSON = 16 * 1024 ** 2;

async function insert(db: Db, rows: readonly string[], origin: Origin): Promise<void> {
  const table = sql.table('quarantine');
  await sql`
    insert into ${table} as q (connection_id, kind, record_id, conversation_id, record_json, record_bytes,
      record_sha256, error_code, error, version, numbering, cursor_from, cursor_to, attempts)
    select ${origin.connectionId}, r.kind, r.record_id, r.conversation_id, r.record_json,
      decode(r.record_bytes, 'base64'), r.record_sha256, r.error_code, r.error,
      coalesce(r.version, ${origin.to.toString()}::bigint), ${origin.numbering}::integer,
      ${origin.from.toString()}::bigint, ${origin.to.toString()}::bigint, r.times
    from json_to_recordset(${`[${rows.join(',')}]`}::json) as r (kind text, record_id text, conversation_id text,
      record_json text, record_bytes text, record_sha256 text, error_code text, error text, version bigint,
      times integer)
    on conflict (connection_id, kind, record_sha256) where resolved_at is null do update set
      attempts = q.attempts + excluded.attempts, last_seen_at = now(), error_code = excluded.error_code,
      error = excluded.error, version = excluded.version, numbering = excluded.numbering,
      cursor_from = excluded.cursor_from, cursor_to = excluded.cursor_to`.execute(db);
}

/**
 * Resolves the open entries of records that came again, good, in the same or a newer version. Compared by the
 * stored id, which is cut to 200 bytes; an id that was cut is not taken for another's. A conversation whose
 * membership came resolves the participants that were refused of it.
 */
export async function supersede(
  db: Db,
  kind: Kind,
  records: readonly { id: string; version: string; members: boolean }[],
  connectionId: ConnectionId,
  numbering: number,
): Promise<void> {
  await sql`
    update ${sql.table('quarantine')} q set resolved_at = now(), resolution = 'superseded'
    from json_to_recordset(${JSON.stringify(records)}::json) as r (id text, version bigint, members boolean)
    where q.connection_id = ${connectionId} and q.resolved_at is null
      and (q.numbering, q.version) <= (${numbering}::integer, r.version)
      and (q.kind = ${kind} and q.record_id = r.id and octet_length(r.id) <= 200
        -- not one that the same page put aside, or counted up, a moment ago
        or ${kind} = 'conversation' and r.members and q.kind = 'participant' and q.conversation_id = r.id
          and q.last_seen_at < now())`.execute(db);
}

function toRow(reject: Reject, hash: string): Record<string, unknown> {
  const text = reject.json.toString('utf8');
  // JSON text has no raw U+0000, and its escapes are plain ASCII; only invalid UTF-8 needs the bytes beside.
  const exact = Buffer.from(text).equals(reject.json);
  return {
    kind: reject.kind,
    record_id: reject.recordId,
    conversation_id: reject.conversationId ?? null,
    record_json: text,
    record_bytes: exact ? null : reject.json.toString('base64'),
    record_sha256: hash,
    error_code: reject.code,
    error: reject.reason,
    version: reject.version ?? null,
  };
}
