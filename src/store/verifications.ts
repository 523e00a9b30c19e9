import { sql } from 'kysely';
import type { ConnectionId, Kind } from '../model.ts';
import type { Db } from './database.ts';

/** Why a verification was made. */
export type Cause = 'command' | 'schedule' | 'gap';

/** Records of one kind, by what was found of them. */
export interface Counts {
  checked: number;
  missing: number;
  older: number;
  different: number;
  /** Stored rows that claim a newer version than the upstream serves, with other content. No repair decides that. */
  conflicting: number;
  mended: number;
  /** The same with equal content; no drift. */
  ahead: number;
  /** Not counted as drift, because they are not to be there: see `verify/exemptions.ts`. */
  exempt: number;
  /** Stored rows that the upstream serves no more; no drift. */
  not_served: number;
}

export type CountsByKind = Record<Kind, Counts>;

export function emptyCounts(): CountsByKind {
  const none = () => ({
    ...{ checked: 0, missing: 0, older: 0, different: 0, conflicting: 0 },
    ...{ mended: 0, ahead: 0, exempt: 0, not_served: 0 },
  });
  return { conversation: none(), contact: none(), message: none() };
}

/** Counts as they were noted; an older version has noted fewer. */
function completed(noted: Partial<CountsByKind>): CountsByKind {
  const { conversation, contact, message } = emptyCounts();
  return {
    conversation: { ...conversation, ...noted.conversation },
    contact: { ...contact, ...noted.contact },
    message: { ...message, ...noted.message },
  };
}

/** Where an interrupted verification goes on. */
export interface ResumeAt {
  readonly stage: 'contacts' | 'conversations' | 'messages';
  /** The conversation that is next, or that was begun. */
  readonly conversation?: string;
  /** The oldest message of it that was compared, and when that was sent, where it says so. */
  readonly before?: string;
  readonly sentAt?: string;
  /** Of it: when it was begun (a time of the database), and how many of its records were known. */
  readonly begun?: string;
  readonly known?: number;
  /** The first failure that one conversation had for itself: it is told at the end. */
  readonly unread?: Failed;
}

/** Why something could not be compared. */
export interface Failed {
  readonly kind: string;
  /** Place and code, never a value. */
  readonly message: string;
}

/** A verification that is under way. */
export interface OpenVerification {
  readonly id: string;
  /** When it was noted last, as text: whoever goes on with it later notes another time. */
  readonly notedAt: string;
  readonly position: ResumeAt;
  readonly counts: CountsByKind;
  readonly requests: number;
}

const FIRST: ResumeAt = { stage: 'contacts' };

/**
 * Begins a verification, or goes on with the last one that nobody commanded, where that was interrupted, in this process
 * or another. Those that died without a word are marked as interrupted.
 * @param since only messages from then on, as text that Postgres reads; null for all.
 */
export async function openVerification(
  db: Db,
  connectionId: ConnectionId,
  order: { readonly cause: Cause; readonly repair: boolean; readonly since: string | null },
  resume: boolean,
): Promise<OpenVerification> {
  const table = sql.table('verifications');
  await sql`update ${table} set state = 'interrupted'
    where connection_id = ${connectionId} and state = 'running'
      and updated_at < clock_timestamp() - interval '15 minutes'`.execute(db);
  if (resume) {
    const { rows } = await sql<{
      verification_id: string;
      noted_at: string;
      position: ResumeAt | null;
      counts: Partial<CountsByKind>;
      requests: string;
    }>`
      with latest as (
        select verification_id from ${table}
        where connection_id = ${connectionId} and cause <> 'command' order by verification_id desc limit 1
      )
      update ${table} v set state = 'running', updated_at = clock_timestamp() from latest l
      where v.connection_id = ${connectionId} and v.verification_id = l.verification_id
        and v.state in ('interrupted', 'running') and v.repair = ${order.repair}::boolean
        and v.since is not distinct from ${order.since}::timestamptz
      returning v.verification_id, v.updated_at::text as noted_at, v.position, v.counts, v.requests`.execute(
      db,
    );
    const [row] = rows;
    if (row !== undefined) {
      return {
        id: row.verification_id,
        notedAt: row.noted_at,
        position: row.position ?? FIRST,
        // Without a position it begins anew (see `forgetPositions`), and so does what it counted.
        counts: row.position === null ? emptyCounts() : completed(row.counts),
        requests: Number(row.requests),
      };
    }
  }
  const { rows } = await sql<{ verification_id: string; noted_at: string }>`
    insert into ${table} (connection_id, cause, repair, since)
    values (${connectionId}, ${order.cause}, ${order.repair}::boolean, ${order.since}::timestamptz)
    returning verification_id, updated_at::text as noted_at`.execute(db);
  const { verification_id: id, noted_at: notedAt } = rows[0]!;
  return { id, notedAt, position: FIRST, counts: emptyCounts(), requests: 0 };
}

/** How a verification stands or ended. */
export interface VerificationNote {
  readonly state: 'running' | 'finished' | 'failed';
  /** Null: there is nothing to go on with. */
  readonly position: ResumeAt | null;
  readonly counts: CountsByKind;
  readonly requests: number;
  readonly ledgerProblems: number;
  readonly error?: Failed;
}

/** Sums of all kinds. */
export function sums(counts: CountsByKind): {
  checked: number;
  drift: number;
  mended: number;
  remaining: number;
  not_served: number;
} {
  const all = { checked: 0, drift: 0, mended: 0, remaining: 0, not_served: 0 };
  for (const { checked, missing, older, different, conflicting, mended, not_served } of Object.values(
    counts,
  )) {
    all.checked += checked;
    all.drift += missing + older + different + conflicting;
    all.mended += mended;
    all.not_served += not_served;
  }
  all.remaining = all.drift - all.mended;
  return all;
}

/**
 * Keeps how far a verification is.
 * @param notedAt when it was noted last, as far as the caller knows.
 * @returns when it is noted now; undefined where another has gone on with it: nothing is kept then.
 */
export async function noteVerification(
  db: Db,
  connectionId: ConnectionId,
  { id, notedAt }: Pick<OpenVerification, 'id' | 'notedAt'>,
  { state, position, counts, requests, ledgerProblems, error }: VerificationNote,
): Promise<string | undefined> {
  const { checked, drift, mended, remaining, not_served } = sums(counts);
  const ended = state === 'finished' || state === 'failed';
  const { rows } = await sql<{ noted_at: string }>`update ${sql.table('verifications')} set
      state = ${state}, updated_at = clock_timestamp(),
      finished_at = case when ${ended}::boolean then clock_timestamp() end,
      position = ${position === null ? null : JSON.stringify(position)}::jsonb, counts = ${JSON.stringify(counts)}::jsonb,
      requests = ${requests}::bigint, checked = ${checked}::bigint, drift = ${drift}::bigint, mended = ${mended}::bigint,
      remaining = ${remaining}::bigint, not_served = ${not_served}::bigint,
      ledger_problems = ${ledgerProblems}::integer,
      error_kind = ${error?.kind ?? null}, error = ${error?.message ?? null}
    where connection_id = ${connectionId} and verification_id = ${id}::bigint and updated_at = ${notedAt}::timestamptz
    returning updated_at::text as noted_at`.execute(db);
  return rows[0]?.noted_at;
}

/** Notes that a verification was interrupted, unless another has gone on with it. Its place, and the counts that belong to
 * that, stay as they were noted last. */
export async function noteInterrupted(
  db: Db,
  connectionId: ConnectionId,
  { id, notedAt }: Pick<OpenVerification, 'id' | 'notedAt'>,
  requests: number,
): Promise<void> {
  await sql`update ${sql.table('verifications')}
    set state = 'interrupted', updated_at = clock_timestamp(), requests = ${requests}::bigint
    where connection_id = ${connectionId} and verification_id = ${id}::bigint
      and updated_at = ${notedAt}::timestamptz`.execute(db);
}

/** Forgets verifications that ended over `days` ago, but for each connection's latest of everything that finished, and
 * the latest that failed: what `status` shows is the later of them. */
export async function forgetVerifications(db: Db, connectionId: ConnectionId, days: number): Promise<void> {
  const table = sql.table('verifications');
  await sql`delete from ${table} where connection_id = ${connectionId}
      and updated_at < clock_timestamp() - make_interval(days => ${days}::integer)
      and verification_id not in (select max(verification_id) from ${table}
        where connection_id = ${connectionId} and since is null and state in ('finished', 'failed')
        group by state)`.execute(db);
}
