import { createHash } from 'node:crypto';
import { type RawBuilder, sql } from 'kysely';
import { entityOf } from '../entities.ts';
import { parseExact } from '../lib/exact-json.ts';
import { cutBytes, mendText } from '../lib/text.ts';
import { type ConnectionId, type Cursor, type Kind, MAX_RECORD_ID_BYTES, type Reject } from '../model.ts';
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
 * bytes' hash, and of a participant by the conversation that is kept beside it: one that comes again counts up. Its cursors
 * are those of the last page of the ledger that brought it, where there was one.
 */
export async function quarantine(db: Db, rejects: readonly Reject[], origin: Origin): Promise<void> {
  // The same bytes twice in one page are one entry; `on conflict` takes a row only once per statement.
  const entries = new Map<string, { reject: Reject; hash: string; times: number }>();
  for (const reject of rejects) {
    const hash = createHash('sha256').update(reject.json).digest('hex');
    const entry = `${reject.kind} ${hash} ${reject.conversationId ?? ''}`;
    const known = entries.get(entry);
    if (known === undefined) entries.set(entry, { reject, hash, times: 1 });
    else {
      known.times++;
      // A participant has the version of the conversation it came in, not one of its own bytes.
      if (BigInt(reject.version ?? 0) > BigInt(known.reject.version ?? 0)) known.reject = reject;
    }
  }
  const rows = [...entries.values()].map(({ reject, hash, times }) =>
    JSON.stringify({ ...toRow(reject, hash), times }),
  );
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
    on conflict (connection_id, kind, record_sha256, (coalesce(conversation_id, ''))) where resolved_at is null do update
    set attempts = q.attempts + excluded.attempts, last_seen_at = now(), error_code = excluded.error_code,
      error = excluded.error, version = excluded.version,
      numbering = excluded.numbering, cursor_from = ${ofLedger('cursor_from')}, cursor_to = ${ofLedger('cursor_to')}`.execute(
    db,
  );
}

/** Of a page that moved no cursor, as of a verification, the ledger has no row. */
function ofLedger(column: 'cursor_from' | 'cursor_to'): RawBuilder<unknown> {
  return sql.raw(
    `case when excluded.cursor_from = excluded.cursor_to then q.${column} else excluded.${column} end`,
  );
}

/** A record that was stored, or that a newer one was there of. */
export interface Good {
  readonly id: string;
  readonly version: string;
  /** Whether it told the membership. */
  readonly members: boolean;
}

/**
 * Resolves the open entries of records that came again, good, in the same or a newer version. A conversation whose
 * membership came resolves the participants that were refused of it.
 */
export async function supersede(
  db: Db,
  kind: Kind,
  records: readonly Good[],
  connectionId: ConnectionId,
  numbering: number,
): Promise<void> {
  const resolve = async (good: readonly object[], matches: RawBuilder<unknown>) => {
    if (good.length === 0) return;
    await sql`
      update ${sql.table('quarantine')} q set resolved_at = now(), resolution = 'superseded'
      from json_to_recordset(${JSON.stringify(good)}::json) as r (id text, version bigint, entry bigint)
      where q.connection_id = ${connectionId} and q.resolved_at is null and ${matches}
        and (q.numbering, q.version) <= (${numbering}::integer, r.version)`.execute(db);
  };
  const long = records.filter(({ id }) => mayBeCut(id));
  const short = long.length === 0 ? records : records.filter(({ id }) => !mayBeCut(id));
  await resolve(short, sql`q.kind = ${kind} and q.record_id = r.id`);
  await resolve(await entriesOf(db, kind, long, connectionId), sql`q.quarantine_id = r.entry`);
  await resolve(
    records.filter(({ members }) => members),
    // Not those that this very record put aside, or counted up, a moment ago.
    sql`q.kind = 'participant' and q.conversation_id = r.id
      and (q.last_seen_at < now() or q.version < r.version)`,
  );
}

/** Whether an entry's `record_id` that is like the beginning of this id may be another's: cut between characters of
 * up to four bytes. */
function mayBeCut(id: string): boolean {
  return id.length * 3 > MAX_RECORD_ID_BYTES - 4 && Buffer.byteLength(id) > MAX_RECORD_ID_BYTES - 4;
}

/** The open entries of records with long ids, by the ids in their JSON: `record_id` has only the beginning. */
async function entriesOf(
  db: Db,
  kind: Kind,
  records: readonly Good[],
  connectionId: ConnectionId,
): Promise<{ entry: string; version: string }[]> {
  if (records.length === 0) return [];
  const cut = records.map(({ id }) => cutBytes(id, MAX_RECORD_ID_BYTES));
  const { rows } = await sql<{ quarantine_id: string; record_json: string }>`
    select quarantine_id, record_json from ${sql.table('quarantine')}
    where connection_id = ${connectionId} and resolved_at is null and kind = ${kind}
      and record_id = any(${cut}::text[])`.execute(db);
  const { key } = entityOf(kind);
  return rows.flatMap((row) => {
    const id = (parseExact(Buffer.from(row.record_json)) as Record<string, unknown>)[key];
    if (typeof id !== 'string') return [];
    return records
      .filter((record) => record.id === mendText(id))
      .map(({ version }) => ({ entry: row.quarantine_id, version }));
  });
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
