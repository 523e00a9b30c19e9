import { sql } from 'kysely';
import type { ErasureKey } from '../lib/erasure-key.ts';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** Stands for all connections, those of later too, where a `connection_id` is wanted. */
export const ALL_CONNECTIONS = '';

/** A hash that must not come back. */
export interface Suppressed {
  /** Undefined: on all connections. */
  readonly connectionId: ConnectionId | undefined;
  readonly hash: Buffer;
  readonly isRecord: boolean;
}

/** Enters hashes into the ledger of suppressions. What was there of an earlier erasure is this one's from now on. */
export async function suppress(db: Db, erasureId: string, hashes: readonly Suppressed[]): Promise<void> {
  await sql`
    insert into ${sql.table('suppressions')} as t (connection_id, hash, is_record, erasure_id, erased_at, forever)
    select h.connection_id, h.hash, bool_or(h.is_record), e.erasure_id, e.erased_at, e.forever
    from unnest(${hashes.map(({ connectionId }) => connectionId ?? ALL_CONNECTIONS)}::text[],
      ${hashes.map(({ hash }) => hash)}::bytea[], ${hashes.map(({ isRecord }) => isRecord)}::boolean[])
      as h (connection_id, hash, is_record)
    join ${sql.table('erasures')} e on e.erasure_id = ${erasureId}::bigint
    group by h.connection_id, h.hash, e.erasure_id, e.erased_at, e.forever
    on conflict (connection_id, hash) do update set erasure_id = excluded.erasure_id, erased_at = excluded.erased_at,
      forever = t.forever or excluded.forever, is_record = t.is_record or excluded.is_record`.execute(db);
}

/** The identifiers (not the records) of the erasures that any of these hashes belong to. */
export async function hashesBeside(db: Db, hashes: readonly Buffer[]): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ hash: string }>`
    select distinct encode(o.hash, 'hex') as hash
    from ${sql.table('suppressions')} s join ${sql.table('suppressions')} o on o.erasure_id = s.erasure_id
    where s.hash = any(${[...hashes]}::bytea[]) and not s.is_record and not o.is_record`.execute(db);
  return new Set(rows.map((row) => row.hash));
}

/** Makes what belongs to earlier erasures of the same person this erasure's: as far as its connections go. */
export async function renew(
  db: Db,
  erasureId: string,
  connectionId: ConnectionId | undefined,
  hashes: readonly Buffer[],
): Promise<void> {
  await sql`
    update ${sql.table('suppressions')} t set erasure_id = e.erasure_id, erased_at = e.erased_at,
      forever = t.forever or e.forever
    from ${sql.table('erasures')} e
    where e.erasure_id = ${erasureId}::bigint and not t.is_record
      and t.connection_id = coalesce(${connectionId ?? null}, t.connection_id)
      and t.erasure_id in (select s.erasure_id from ${sql.table('suppressions')} s
        where s.hash = any(${[...hashes]}::bytea[]) and not s.is_record)`.execute(db);
}

/** What the ledger of suppressions has of a hash; of several erasures the strictest. */
export interface Mark {
  /** A message that was removed, or a record as it was at the erasure; else an identifier of the person. */
  readonly isRecord: boolean;
  readonly erasureIds: readonly string[];
  /** Milliseconds since 1970, cut. */
  readonly erasedAt: number;
  readonly forever: boolean;
  /** The person was heard of again on this connection. */
  readonly returned: boolean;
}

/** Looks hashes up, in one statement. @returns the marks, by hash in hex. */
export async function findMarks(
  db: Db,
  connectionId: ConnectionId,
  hashes: readonly Buffer[],
): Promise<Map<string, Mark>> {
  if (hashes.length === 0) return new Map();
  const { rows } = await sql<Mark & { hash: string }>`
    select encode(h.hash, 'hex') as hash, bool_or(s.is_record) as "isRecord",
      array_agg(s.erasure_id::text) as "erasureIds",
      floor(extract(epoch from max(s.erased_at)) * 1000)::float8 as "erasedAt", bool_or(s.forever) as forever,
      bool_and(r.erasure_id is not null) as returned
    from unnest(${[...hashes]}::bytea[]) as h (hash)
    cross join (values (${ALL_CONNECTIONS}), (${connectionId}::text)) as c (connection_id)
    cross join lateral (
      -- by the key's index, whatever the statistics say
      select * from ${sql.table('suppressions')} s where s.connection_id = c.connection_id and s.hash = h.hash limit 1
    ) s
    left join ${sql.table('erasure_returns')} r on r.connection_id = ${connectionId} and r.erasure_id = s.erasure_id
    group by h.hash`.execute(db);
  return new Map(rows.map(({ hash, ...mark }) => [hash, mark]));
}

/** A hash that belongs to an erasure, too: another identifier of the person, or a record of them that was refused. */
export interface Learned {
  readonly hash: Buffer;
  readonly isRecord: boolean;
  readonly erasureId: string;
}

/** Adds hashes to the erasures they belong to, on this connection; those that are there stay as they are. */
export async function learn(db: Db, connectionId: ConnectionId, learned: readonly Learned[]): Promise<void> {
  if (learned.length === 0) return;
  await sql`
    insert into ${sql.table('suppressions')} (connection_id, hash, is_record, erasure_id, erased_at, forever)
    select distinct on (l.hash) ${connectionId}, l.hash, l.is_record, e.erasure_id, e.erased_at, e.forever
    from unnest(${learned.map(({ hash }) => hash)}::bytea[], ${learned.map(({ isRecord }) => isRecord)}::boolean[],
      ${learned.map(({ erasureId }) => erasureId)}::bigint[]) as l (hash, is_record, erasure_id)
    join ${sql.table('erasures')} e on e.connection_id in (${ALL_CONNECTIONS}, ${connectionId})
      and e.erasure_id = l.erasure_id
    order by l.hash, e.erased_at desc
    on conflict (connection_id, hash) do nothing`.execute(db);
}

/** Notes that there are messages with the person of an erasure from after it. */
export async function noteReturns(
  db: Db,
  connectionId: ConnectionId,
  erasureIds: readonly string[],
): Promise<void> {
  if (erasureIds.length === 0) return;
  await sql`insert into ${sql.table('erasure_returns')} (connection_id, erasure_id)
    select ${connectionId}, id from unnest(${[...erasureIds]}::bigint[]) as id
    on conflict do nothing`.execute(db);
}

/** Of these messages, those that are stored and were sent after a time of their own, in milliseconds since 1970.
 * @returns when each was sent, likewise, cut. */
export async function storedSince(
  db: Db,
  connectionId: ConnectionId,
  messages: readonly { readonly id: string; readonly since: number }[],
): Promise<{ readonly id: string; readonly at: number }[]> {
  const { rows } = await sql<{ id: string; at: number }>`
    select m.message_id as id, floor(extract(epoch from d.at) * 1000)::float8 as at
    from unnest(${messages.map(({ id }) => id)}::text[], ${messages.map(({ since }) => since / 1000)}::float8[])
      as a (id, since)
    join ${sql.table('messages')} m on m.connection_id = ${connectionId} and m.message_id = a.id
    cross join lateral (select coalesce(m.sent_at, m.received_at)) as d (at)
    where d.at > to_timestamp(a.since)`.execute(db);
  return rows;
}

/** Of these numbers (E.164), those of people who were erased on all connections, and not heard of on any since. */
export async function erasedPhones(
  db: Db,
  key: ErasureKey,
  phones: readonly string[],
): Promise<ReadonlySet<string>> {
  if ((await keyFingerprints(db)).length === 0) return new Set();
  const asked = [...new Set(phones)];
  const { rows } = await sql<{ phone: string }>`
    select a.phone from unnest(${asked}::text[], ${asked.map((phone) => key.hash(phone))}::bytea[]) as a (phone, hash)
    join ${sql.table('suppressions')} s on s.connection_id = ${ALL_CONNECTIONS} and s.hash = a.hash
    where not s.is_record
      and (s.forever or not exists (select from ${sql.table('erasure_returns')} r where r.erasure_id = s.erasure_id))`.execute(
    db,
  );
  return new Set(rows.map((row) => row.phone));
}

/** The fingerprints of the keys that there are suppressions under: one, unless somebody tampered. */
export async function keyFingerprints(db: Db): Promise<string[]> {
  const { rows } = await sql<{ key_fingerprint: string }>`
    select distinct key_fingerprint from ${sql.table('erasures')}`.execute(db);
  return rows.map((row) => row.key_fingerprint);
}
