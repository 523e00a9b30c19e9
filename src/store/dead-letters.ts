import { type SqlBool, sql } from 'kysely';
import type { ConnectionId, Outcome, Tally } from '../model.ts';
import { changeWrite, numberAfter } from './changes.ts';
import type { Db } from './database.ts';
import { jidsOfConversations, STORED_OTHER_SIDE } from './jids.ts';
import { membershipIntervals } from './memberships.ts';
import { MEMBERSHIP_CHANGES } from './participants.ts';

/** An entry of the quarantine, without its JSON. */
export interface DeadLetter {
  readonly quarantine_id: string;
  readonly connection_id: ConnectionId;
  readonly kind: string;
  readonly record_id: string | null;
  readonly error_code: string | null;
  readonly error: string | null;
  readonly attempts: number;
  readonly first_seen_at: Date;
  readonly last_seen_at: Date;
  readonly resolved_at: Date | null;
  readonly resolution: string | null;
}

/** An entry with the record as it came. */
export interface WholeDeadLetter extends DeadLetter {
  readonly conversation_id: string | null;
  readonly numbering: number;
  readonly version: string;
  readonly cursor_from: string;
  readonly cursor_to: string;
  /** The record's bytes. */
  readonly json: Buffer;
}

/** Which entries are meant; what is absent means any. */
export interface DeadLetterFilter {
  readonly ids?: readonly string[];
  readonly connection?: string | undefined;
  readonly kind?: string | undefined;
  readonly code?: string | undefined;
  /** The resolved ones too. */
  readonly all?: boolean | undefined;
}

const SUMMARY = sql.raw(`quarantine_id, connection_id, kind, record_id, error_code, error, attempts,
  first_seen_at, last_seen_at, resolved_at, resolution`);

function matching({ ids = [], connection, kind, code, all }: DeadLetterFilter) {
  return sql<SqlBool>`(${ids.length === 0} or quarantine_id = any(${[...ids]}::bigint[]))
    and connection_id = coalesce(${connection ?? null}, connection_id)
    and kind = coalesce(${kind ?? null}, kind)
    and coalesce(error_code, '') = coalesce(${code ?? null}, error_code, '')
    and (${all === true} or resolved_at is null)`;
}

/** Entries, the newest first. @param most null for all. */
export async function listDeadLetters(
  db: Db,
  filter: DeadLetterFilter,
  most: number | null,
): Promise<DeadLetter[]> {
  const { rows } = await sql<DeadLetter>`
    select ${SUMMARY} from ${sql.table('quarantine')} where ${matching(filter)}
    order by last_seen_at desc, quarantine_id desc limit ${most}::bigint`.execute(db);
  return rows;
}

/** How many entries match. */
export async function countDeadLetters(db: Db, filter: DeadLetterFilter): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from ${sql.table('quarantine')} where ${matching(filter)}`.execute(db);
  return rows[0]!.count;
}

/** One entry with its JSON; undefined where there is none. */
export async function readDeadLetter(db: Db, id: string): Promise<WholeDeadLetter | undefined> {
  const { rows } = await sql<WholeDeadLetter & { record_json: string; record_bytes: Buffer | null }>`
    select ${SUMMARY}, conversation_id, numbering, version, cursor_from, cursor_to, record_json, record_bytes
    from ${sql.table('quarantine')} where quarantine_id = ${id}::bigint`.execute(db);
  const row = rows[0];
  if (row === undefined) return undefined;
  const { record_json, record_bytes, ...rest } = row;
  return { ...rest, json: record_bytes ?? Buffer.from(record_json) };
}

/** The ids of matching entries in the order they came, so that a retry applies older records first. */
export async function deadLetterIds(db: Db, filter: DeadLetterFilter): Promise<string[]> {
  const { rows } = await sql<{ quarantine_id: string }>`
    select quarantine_id from ${sql.table('quarantine')} where ${matching(filter)}
    order by quarantine_id`.execute(db);
  return rows.map((row) => row.quarantine_id);
}

/** Closes an open entry. */
export async function resolveDeadLetter(
  db: Db,
  id: string,
  resolution: 'retried' | 'superseded',
): Promise<void> {
  await sql`update ${sql.table('quarantine')} set resolved_at = now(), resolution = ${resolution}
    where quarantine_id = ${id}::bigint and resolved_at is null`.execute(db);
}

/** Deletes an entry, JSON and all. */
export async function deleteDeadLetter(db: Db, id: string): Promise<void> {
  await sql`delete from ${sql.table('quarantine')} where quarantine_id = ${id}::bigint`.execute(db);
}

/** Notes a retry that was refused again. */
export async function noteRetry(db: Db, id: string, code: string, reason: string): Promise<void> {
  await sql`update ${sql.table('quarantine')} set attempts = attempts + 1, error_code = ${code}, error = ${reason}
    where quarantine_id = ${id}::bigint`.execute(db);
}

/** The connections of matching open entries. */
export async function deadLetterConnections(db: Db, filter: DeadLetterFilter): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select distinct connection_id from ${sql.table('quarantine')}
    where ${matching({ ...filter, all: false })}`.execute(db);
  return rows.map((row) => row.connection_id);
}

/** Closes matching open entries of these connections, whose state rows the caller has locked, without applying them;
 * their JSON stays.
 * @returns how many. */
export async function discardDeadLetters(
  db: Db,
  filter: DeadLetterFilter,
  connectionIds: readonly ConnectionId[],
): Promise<number> {
  const result = await sql`update ${sql.table('quarantine')} set resolved_at = now(), resolution = 'discarded'
    where ${matching({ ...filter, all: false })} and connection_id = any(${[...connectionIds]}::text[])`.execute(
    db,
  );
  return Number(result.numAffectedRows ?? 0n);
}

/** Puts a participant that passes now into its conversation, unless that is there in a newer version. */
export async function addParticipant(
  db: Db,
  letter: WholeDeadLetter,
  participant: Record<string, unknown>,
  changes: boolean,
): Promise<Outcome> {
  const { connection_id: connectionId, conversation_id: conversationId, numbering, version } = letter;
  const change = sql`select 'conversation' as kind, c.conversation_id as record_id, 'updated' as op,
      array['participants'] as changed_fields, c.seq as version
    from ${sql.table('conversations')} c cross join added
    where c.connection_id = ${connectionId} and c.conversation_id = ${conversationId}`;
  const { rows } = await sql<{ outcome: Outcome }>`
    with newer as (
      select from ${sql.table('conversations')} c
      where c.connection_id = ${connectionId} and c.conversation_id = ${conversationId}
        and (c.numbering, c.seq) > (${numbering}::integer, ${version}::bigint)
    ), members as materialized (
      select ${conversationId}::text as conversation_id, r.participant_jid, r.person_id, r.role, r.extra
      from json_to_record(${JSON.stringify(participant)}::json)
        as r (participant_jid text, person_id text, role text, extra jsonb)
      where not exists (select from newer)
    ), stored_members as materialized (
      select p.* from members m join ${sql.table('conversation_participants')} p
        on p.connection_id = ${connectionId} and p.conversation_id = m.conversation_id
          and p.participant_jid = m.participant_jid
    ), membership_diff as (
      select conversation_id from members
    ), added as (
      insert into ${sql.table('conversation_participants')}
        (connection_id, conversation_id, participant_jid, person_id, role, extra)
      select ${connectionId}, conversation_id, participant_jid, person_id, role, extra from members
      on conflict do nothing
      returning true
    ), judged as materialized (
      -- as the conversation's upsert has it, for what is derived from its members
      select m.conversation_id, '[]'::jsonb as participants, 'updated' as outcome, c.seq, c.kind,
        c.chat_jid, c.direct_person_id, c.last_message_at, ${sql.raw(STORED_OTHER_SIDE.replaceAll('e.', 'c.'))}
      from members m left join ${sql.table('conversations')} c
        on c.connection_id = ${connectionId} and c.conversation_id = m.conversation_id
      where not exists (select from stored_members)
    )${jidsOfConversations(connectionId)}${membershipIntervals(connectionId)}${changes ? changeWrite(connectionId, [change, MEMBERSHIP_CHANGES]) : sql``}${
      changes
        ? sql``
        : sql`, untold as (
      update ${sql.table('sync_state')} set last_change_no = ${numberAfter(true)}
      where connection_id = ${connectionId} and exists (select from added)
    )`
    }
    select case when exists (select from newer) then 'stale'
      when exists (select from added) then 'inserted' else 'unchanged' end as outcome`.execute(db);
  return rows[0]!.outcome;
}

/** Counts rows that were written outside a page into the connection's totals.
 * @param where.beside they never came in a page of the ledger. @param where.untold the change feed was not told. */
export async function countInserted(
  db: Db,
  connectionId: ConnectionId,
  tally: Readonly<Record<'conversation' | 'contact' | 'message', Tally>>,
  { beside, untold }: { readonly beside: boolean; readonly untold: boolean },
): Promise<void> {
  const counted = (inserted: number) => (beside ? inserted : 0);
  await sql`update ${sql.table('sync_state')} set last_change_no = ${numberAfter(untold)},
      beside_conversations = beside_conversations + ${counted(tally.conversation.inserted)}::integer,
      beside_contacts = beside_contacts + ${counted(tally.contact.inserted)}::integer,
      beside_messages = beside_messages + ${counted(tally.message.inserted)}::integer,
      stored_conversations = stored_conversations + ${tally.conversation.inserted}::integer,
      stored_contacts = stored_contacts + ${tally.contact.inserted}::integer,
      stored_messages = stored_messages + ${tally.message.inserted}::integer
    where connection_id = ${connectionId}`.execute(db);
}
