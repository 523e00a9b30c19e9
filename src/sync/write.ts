import type { Transaction } from 'kysely';
import { type Entity, entityOf } from '../entities.ts';
import { sliceArray } from '../lib/json-slice.ts';
import { cutBytes } from '../lib/text.ts';
import {
  addTally,
  emptyTally,
  type Kind,
  MAX_RECORD_ID_BYTES,
  type Reject,
  type Row,
  type Tally,
} from '../model.ts';
import { supersede } from '../store/quarantine.ts';
import type { EncodedRows } from '../store/recordset.ts';
import type { History } from '../store/revisions.ts';
import type { Database } from '../store/schema.ts';
import { type UpsertTarget, upsert } from '../store/upsert.ts';
import type { Batch } from './batches.ts';
import { attempt, halve, halveMembers, type Refused } from './halve.ts';
import { normaliseParticipant, readRecord } from './normalise.ts';
import { removeParts } from './parts.ts';
import type { Forgetting, Suppression } from './suppression.ts';

/** How records are written, as the settings say: the same for pages, retries and repairs. */
export interface Writing {
  readonly history: History;
  /** Whether the change feed is told (CHANGES). */
  readonly changes: boolean;
  /** Whether attachments are queued (MEDIA_STORE). */
  readonly media: boolean;
  readonly forgetting: Forgetting;
}

export interface WriteOptions {
  /** Each statement behind a savepoint, so that a record that Postgres refuses can be found (R9). */
  readonly carefully: boolean;
  /** Told once when Postgres has all that there is to do for now. */
  readonly sent?: () => void;
  /** What must not be written; undefined where everything may. */
  readonly suppression: Suppression | undefined;
}

export interface Written {
  readonly tally: Record<Kind, Tally>;
  /** What Postgres refused. */
  readonly refused: Reject[];
  /** What it took whole, by batch. A partial record does not make up for one that was refused (R7). */
  readonly good: { readonly entity: Entity; readonly rows: readonly Row[] }[];
}

/**
 * Writes batches in their order, one statement each, inside the caller's transaction. The caller holds the lock of
 * the connection's state row. Shared by the page's apply and by whoever else writes records (R22).
 */
export async function write(
  trx: Transaction<Database>,
  batches: readonly Batch[],
  target: UpsertTarget,
  { carefully, suppression, sent }: WriteOptions,
): Promise<Written> {
  const tally = { conversation: emptyTally(), contact: emptyTally(), message: emptyTally() };
  const refused: Reject[] = [];
  const good: Written['good'] = [];
  const queue = suppression === undefined ? [...batches] : await suppression.batches(batches);
  await removeParts(trx, target, suppression?.refused ?? []);
  for (let batch = queue.shift(); batch !== undefined; batch = queue.shift()) {
    const { kind, partial } = batch;
    const entity = entityOf(kind);
    const put = async (rows: readonly Row[] | EncodedRows) =>
      await upsert(trx, entity, rows, target, partial);
    const putAndCount = async (rows: readonly Row[] | EncodedRows) => addTally(tally[kind], await put(rows));
    if (!carefully) {
      const writing = putAndCount(batch.encoded ?? batch.rows);
      if (queue.length === 0 && sent !== undefined) setImmediate(sent);
      await writing;
      if (!partial) good.push(rowsOf(entity, batch));
      continue;
    }
    const bad = await halve(batch.rows, (rows) => attempt(trx, () => putAndCount(rows)));
    const without = new Set(bad.map(({ one }) => one));
    const rows = batch.rows.filter((row) => !without.has(row));
    for (const { one: row, code } of bad) {
      const parts = batch.parts?.get(row);
      if (parts !== undefined) {
        queue.unshift(...parts);
        continue;
      }
      const members = await halveMembers(trx, row, (one) => put([one]));
      const rest = withoutMembers(row, members);
      if (members.length > 0 && (await attempt(trx, () => putAndCount([rest]))) === undefined) {
        for (const member of members) refused.push(rejectOfMember(entity, batch, row, member));
        rows.push(rest);
      } else {
        refused.push(rejectOf(entity, batch, row, code));
      }
    }
    if (!partial) good.push({ entity, rows });
  }
  return { tally, refused: (await suppression?.rejects(refused)) ?? refused, good };
}

/** Not read before they are asked for: a packed batch has them as bytes only. */
function rowsOf(entity: Entity, batch: Batch): Written['good'][number] {
  return {
    entity,
    get rows() {
      return batch.rows;
    },
  };
}

/** Resolves what was quarantined of records that are good now; after the page's own rejects were put aside. */
export async function resolveSuperseded(
  trx: Transaction<Database>,
  { good }: Written,
  { connectionId, numbering }: UpsertTarget,
): Promise<void> {
  for (const { entity, rows } of good) {
    const records = rows.map((row) => ({
      id: row[entity.key] as string,
      version: row[entity.version] as string,
      members: Array.isArray(row.participants),
    }));
    if (records.length > 0) await supersede(trx, entity.kind, records, connectionId, numbering);
  }
}

/** Whether anything was written. */
export function hasChanged(tally: Readonly<Record<Kind, Tally>>): boolean {
  return Object.values(tally).some((counts) => counts.inserted + counts.updated + counts.amended > 0);
}

function withoutMembers(conversation: Row, members: readonly Refused<Row>[]): Row {
  const all = (conversation.participants ?? []) as readonly Row[];
  return { ...conversation, participants: all.filter((row) => !members.some(({ one }) => one === row)) };
}

/** Why a record is quarantined that passed all checks but Postgres'. */
export function refusedBy(code: string): string {
  return `Postgres refuses a value of it (SQLSTATE ${code})`;
}

function rejectOf(entity: Entity, batch: Batch, row: Row, code: string): Reject {
  return {
    kind: entity.kind,
    recordId: cutBytes(row[entity.key] as string, MAX_RECORD_ID_BYTES),
    version: row[entity.version] as string,
    json: batch.json(row),
    code,
    reason: refusedBy(code),
  };
}

function rejectOfMember(entity: Entity, batch: Batch, row: Row, { one, code }: Refused<Row>): Reject {
  const { participant_jid: jid } = one as { participant_jid: string };
  const isIt = (bytes: Buffer) => {
    const participant = normaliseParticipant(readRecord(bytes));
    return 'participant_jid' in participant && participant.participant_jid === jid;
  };
  return {
    ...rejectOf(entity, batch, row, code),
    kind: 'participant',
    recordId: cutBytes(jid, MAX_RECORD_ID_BYTES),
    conversationId: row[entity.key] as string,
    // The last one of its JID is the one that counted (R3).
    json: sliceArray(batch.json(row), 'participants').findLast(isIt)!,
  };
}
