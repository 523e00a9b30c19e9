import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { isOver } from './clock.ts';
import type { Db } from './database.ts';
import { interval } from './interval.ts';

/*
 * Who downloads what. A claim is a lease on a row of `media`, by a token of its own: whoever changes the row meanwhile (a
 * page that brings another attachment, an erasure) takes the token away, and what the download then reports is refused.
 * No transaction is open while a file comes.
 */

/** An attachment that is to be downloaded now. */
export interface Claim {
  readonly connectionId: ConnectionId;
  readonly messageId: string;
  readonly token: string;
  /** Tries before this one. */
  readonly attempts: number;
  /** Where its present file is, if it has one: it is fetched anew. */
  readonly location: string | null;
  /** What the message tells of its file, as far as it is understood. */
  readonly contentType: string | null;
  readonly mimeType: string | null;
  /** In hex or base64. */
  readonly sha256: string | null;
}

/** Newest first; likewise, of those that never failed; or the oldest, which the upstream is about to forget. */
export type ClaimOrder = 'newest' | 'untried' | 'oldest';

/** What may be claimed now. */
const FREE = `m.state = 'pending' and ${isOver('m.next_try_at')}
        and (m.claimed_until is null or ${isOver('m.claimed_until')})`;

/** Names that are seen for one fact: the upstream documents none. */
function told(...names: string[]): RawBuilder<unknown> {
  return sql.raw(`coalesce(${names.map((name) => `x.media ->> '${name}'`).join(', ')})`);
}

/** A connection, and how many of its attachments may be claimed. */
export interface Room {
  readonly connectionId: ConnectionId;
  readonly room: number;
}

/**
 * Claims up to `most` attachments of these connections. What others have claimed, or are claiming, is passed over.
 * @param token of the claim: no two calls may have the same.
 * @param ttl how long the claim holds, in milliseconds, by the database's clock.
 */
export async function claimMedia(
  db: Db,
  rooms: readonly Room[],
  most: number,
  order: ClaimOrder,
  token: string,
  ttl: number,
): Promise<Claim[]> {
  const table = sql.table('media');
  const by = sql.raw(order === 'oldest' ? 'asc' : 'desc');
  const which = sql.raw(order === 'untried' ? 'and m.attempts = 0' : '');
  const { rows } = await sql<Claim>`
    with candidates as materialized (
      select c.* from unnest(${rooms.map((one) => one.connectionId)}::text[], ${rooms.map((one) => one.room)}::integer[])
        as r (id, room)
      cross join lateral (
        select m.connection_id, m.message_id, m.sent_at from ${table} m
        where m.connection_id = r.id and ${sql.raw(FREE)} ${which} order by m.sent_at ${by} limit r.room
      ) c
      order by c.sent_at ${by} limit ${most}
    ),
    free as materialized (
      select m.connection_id, m.message_id from candidates c
      join ${table} m on m.connection_id = c.connection_id and m.message_id = c.message_id
      where ${sql.raw(FREE)} for update of m skip locked
    ),
    claimed as (
      update ${table} m set claimed_by = ${token},
        claimed_until = clock_timestamp() + ${interval(ttl)}
      from free f where m.connection_id = f.connection_id and m.message_id = f.message_id
      returning m.*
    )
    select c.connection_id as "connectionId", c.message_id as "messageId", c.claimed_by as token, c.attempts,
      c.location, x.content_type as "contentType",
      ${told('mime_type', 'mimetype', 'mimeType')} as "mimeType",
      ${told('file_sha256', 'sha256', 'fileSha256')} as sha256
    from claimed c
    left join ${sql.table('messages')} x on x.connection_id = c.connection_id and x.message_id = c.message_id`.execute(
    db,
  );
  return rows;
}

/** Makes claims hold for `ttl` milliseconds from now, but for rows that are locked: whoever has one, such as an erasure, is
 * about to take its claim away, and the others would run out behind it. */
export async function renewClaims(db: Db, claims: readonly Claim[], ttl: number): Promise<void> {
  const table = sql.table('media');
  await sql`
    with ours as materialized (
      select m.connection_id, m.message_id from ${table} m join ${rowsOf(claims)} on ${IS_CLAIMED}
      for update of m skip locked
    )
    update ${table} m set claimed_until = clock_timestamp() + ${interval(ttl)}
    from ours o where m.connection_id = o.connection_id and m.message_id = o.message_id`.execute(db);
}

/** Gives claims back as they were. */
export async function releaseClaims(db: Db, claims: readonly Claim[]): Promise<void> {
  await sql`update ${sql.table('media')} m set claimed_by = null, claimed_until = null, writing = null
    from ${rowsOf(claims)} where ${IS_CLAIMED}`.execute(db);
}

/** Notes where a file is about to be written, before it is: so that nobody takes it for one that nobody refers to.
 * @returns false where the claim is lost. */
export async function noteWriting(db: Db, claim: Claim, location: string): Promise<boolean> {
  return (await change(db, claim, sql`writing = ${location}`)) !== undefined;
}

/** A file as it lies in the store. */
export interface StoredFile {
  readonly location: string;
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
  readonly mimeType: string | null;
}

/** Notes that the file is there.
 * @returns false where the claim is lost. */
export async function noteStored(db: Db, claim: Claim, file: StoredFile): Promise<boolean> {
  const { location, bytes, sha256, mimeType } = file;
  const set = sql`${ENDED}, state = 'stored', location = ${location}, bytes = ${bytes}, sha256 = ${sha256},
      mime_type = ${mimeType}, stored_at = now(), error_kind = null, error = null`;
  return (await change(db, claim, set)) !== undefined;
}

/** Why there is no file. Neither part may hold a value of the message's (R18). */
export interface MediaError {
  readonly kind: string;
  /** Its place and code. */
  readonly message: string;
}

/** Notes that there is nothing to be had. A file that is stored stays: one that was to replace it is not there. */
export async function noteGone(
  db: Db,
  claim: Claim,
  state: 'unavailable' | 'failed',
  error: MediaError,
): Promise<boolean> {
  return (await change(db, claim, sql`${ENDED}, ${endedAs(state)}, ${why(error)}`)) !== undefined;
}

/**
 * Notes that it is to be tried again, `delay` milliseconds from now. Of a message that the upstream has forgotten it is
 * not: whatever hindered it, there is nothing to be had any more.
 * @param window how long the upstream serves a message, in milliseconds.
 * @returns whether it is tried again; undefined where the claim is lost.
 */
export async function noteRetry(
  db: Db,
  claim: Claim,
  error: MediaError,
  delay: number,
  window: number,
): Promise<boolean | undefined> {
  const over = sql`sent_at < now() - ${interval(window)}`;
  const state = await change(
    db,
    claim,
    sql`${ENDED}, ${why(error)},
      state = case when not ${over} then 'pending' when location is null then 'failed' else 'stored' end,
      next_try_at = clock_timestamp() + ${interval(delay)}`,
  );
  return state === undefined ? undefined : state === 'pending';
}

const ENDED = sql.raw('attempts = attempts + 1, claimed_by = null, claimed_until = null, writing = null');
const IS_CLAIMED = sql.raw(`m.connection_id = r.connection_id and m.message_id = r.message_id
      and m.claimed_by = r.token`);

function endedAs(state: string): RawBuilder<unknown> {
  return sql`state = case when location is null then ${state} else 'stored' end`;
}

function why({ kind, message }: MediaError): RawBuilder<unknown> {
  return sql`error_kind = ${kind}, error = ${message}`;
}

function rowsOf(claims: readonly Claim[]): RawBuilder<unknown> {
  const column = (pick: (claim: Claim) => string) => sql`${claims.map(pick)}::text[]`;
  return sql`unnest(${column((one) => one.connectionId)}, ${column((one) => one.messageId)},
    ${column((one) => one.token)}) as r (connection_id, message_id, token)`;
}

/** @returns the row's state; undefined where the claim is lost. */
async function change(db: Db, claim: Claim, set: RawBuilder<unknown>): Promise<string | undefined> {
  const { rows } = await sql<{ state: string }>`update ${sql.table('media')} m set ${set}
    from ${rowsOf([claim])} where ${IS_CLAIMED} returning m.state`.execute(db);
  return rows[0]?.state;
}
