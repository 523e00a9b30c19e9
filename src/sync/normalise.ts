import { createHash } from 'node:crypto';
import { CONTACT, CONVERSATION, ENTITIES, type Entity, MESSAGE, PARTICIPANT_FIELDS } from '../entities.ts';
import { exactNumber, int64, parseExact } from '../lib/exact-json.ts';
import { sliceArray } from '../lib/json-slice.ts';
import { lazily } from '../lib/lazily.ts';
import { cutBytes } from '../lib/text.ts';
import { type Cursor, type Kind, MAX_RECORD_ID_BYTES, type Reject, type Row } from '../model.ts';
import { type Page, recordBytes } from '../upstream/page.ts';
import { type Batch, partialsIn, toBatches } from './batches.ts';
import { checkId, FieldReader, Refusal } from './fields.ts';

/** What a page says, ready to be written, and what of it cannot be stored. */
export interface Changes {
  /** In writing order; a kind has a further batch for every time an id comes again in the page (R3). */
  readonly batches: readonly Batch[];
  readonly rejects: readonly Reject[];
  /** Records that came, good and bad, by kind. */
  readonly came: Readonly<Record<Kind, number>>;
  readonly partial: number;
  /** Of the answer's bytes, in hex: the ledger has it. */
  readonly bodySha256: string;
}

/** Checks every record of a page (R2 to R5, R7, R9, R10). Pure: touches neither network nor database. */
export function normalise(page: Page): Changes {
  const batches: Batch[] = [];
  const rejects: Reject[] = [];
  const came: Record<Kind, number> = { conversation: 0, contact: 0, message: 0 };
  let partial = 0;
  for (const entity of ENTITIES) {
    const records = page.records[entity.array];
    came[entity.kind] = records.length;
    if (records.length === 0) continue;
    const source = lazily(() => recordBytes(page, entity.array));
    const result = normaliseRecords(entity, records, page.cursor, (index) => source()[index]!);
    for (const batch of result.batches) {
      batches.push(batch);
      partial += partialsIn(batch);
    }
    // Not spread into push: a page of nothing but bad records has more of them than a call takes arguments.
    for (const reject of result.rejects) rejects.push(reject);
  }
  return { batches, rejects, came, partial, bodySha256: sha256(page.body) };
}

/**
 * Checks records of one kind.
 * @param cursor the answer's cursor: the version of a record that has none of its own (R2).
 * @param bytes the bytes a record came as, by its index.
 */
export function normaliseRecords(
  entity: Entity,
  records: readonly unknown[],
  cursor: Cursor,
  bytes: (index: number) => Buffer,
): { batches: Batch[]; rejects: Reject[] } {
  const rejects: Reject[] = [];
  const rows: Row[] = [];
  const indexes: number[] = [];
  const fallback = cursor.toString();
  let index = 0;
  let members: { readonly of: number; readonly json: readonly Buffer[] } | undefined;
  const refused: ParticipantRefused = (at, recordId, { code, reason }, conversationId, version) => {
    if (members?.of !== index) members = { of: index, json: sliceArray(bytes(index), 'participants') };
    const json = members.json[at]!;
    rejects.push({ kind: 'participant', recordId, conversationId, version, json, code, reason });
  };
  // Nothing is made for a record but its row: of what a page leaves to the garbage collector that was a quarter.
  for (; index < records.length; index++) {
    const record = records[index];
    const row = normaliseRecord(entity, record, fallback, refused);
    if (row instanceof Refusal) rejects.push(reject(entity, record, bytes(index), row));
    else {
      rows.push(row);
      indexes.push(index);
    }
  }
  return { batches: toBatches(entity, rows, (row) => bytes(indexes[rows.indexOf(row)]!)), rejects };
}

/** A record that came alone, from its bytes; read as in a page. */
export function readRecord(bytes: Buffer): unknown {
  return parseExact(bytes);
}

type ParticipantRefused = (
  index: number,
  jid: string | null,
  refusal: Refusal,
  conversationId: string,
  version: string,
) => void;

function normaliseRecord(
  entity: Entity,
  record: unknown,
  fallback: string,
  refused: ParticipantRefused,
): Row | Refusal {
  if (typeof record !== 'object' || record === null || Array.isArray(record)) {
    return new Refusal('not_an_object', 'the record is no JSON object');
  }
  const came = record as Record<string, unknown>;
  const id = checkId(came[entity.key], entity.key);
  if (id instanceof Refusal) return id;
  const reader = READERS[entity.kind];
  const row = reader.blank();
  row[entity.key] = id;
  const version = entity.version === 'seq' ? (came.seq ?? undefined) : undefined;
  const digits = version === undefined ? fallback : int64(version);
  if (digits === undefined) return new Refusal('seq_invalid', '"seq" is not an integer from 0 to 2^63-1');
  row[entity.version] = digits;
  const problem = reader.read(came, row);
  if (problem !== undefined) return problem;
  if (entity.kind === 'conversation' && came.participants !== undefined && came.participants !== null) {
    const participants = normaliseParticipants(came.participants, (index, participant, refusal) =>
      refused(index, readableId('participant_jid', participant), refusal, id, digits),
    );
    if (participants instanceof Refusal) return participants;
    row.participants = participants;
  }
  return row;
}

/** Beside them, what this file handles itself: key, version, membership. */
const READERS: Readonly<Record<Kind, FieldReader>> = {
  message: new FieldReader(MESSAGE.fields, ['message_id', 'seq']),
  conversation: new FieldReader(CONVERSATION.fields, ['conversation_id', 'seq', 'participants']),
  contact: new FieldReader(CONTACT.fields, ['person_id'], ['version']),
};
const PARTICIPANT_READER = new FieldReader(PARTICIPANT_FIELDS, ['participant_jid']);

function normaliseParticipants(
  value: unknown,
  refused: (index: number, participant: unknown, refusal: Refusal) => void,
): Row[] | Refusal {
  if (!Array.isArray(value)) return new Refusal('type_mismatch', '"participants" is not an array');
  const byJid = new Map<string, Row>();
  for (const [index, participant] of value.entries()) {
    const row = normaliseParticipant(participant);
    if (row instanceof Refusal) refused(index, participant, row);
    // The last one of a JID counts (R3).
    else byJid.set(row.participant_jid as string, row);
  }
  return [...byJid.values()];
}

/** Checks a participant on its own. */
export function normaliseParticipant(value: unknown): Row | Refusal {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return new Refusal('not_an_object', 'the participant is no JSON object');
  }
  const came = value as Record<string, unknown>;
  const jid = checkId(came.participant_jid, 'participant_jid');
  if (jid instanceof Refusal) return jid;
  const row = PARTICIPANT_READER.blank();
  row.participant_jid = jid;
  return PARTICIPANT_READER.read(came, row) ?? row;
}

function reject(entity: Entity, record: unknown, json: Buffer, refusal: Refusal): Reject {
  const seq = entity.version === 'seq' ? int64((record as { seq?: unknown } | null)?.seq) : undefined;
  return {
    kind: entity.kind,
    recordId: readableId(entity.key, record),
    ...(seq === undefined ? {} : { version: seq }),
    json,
    code: refusal.code,
    reason: refusal.reason,
  };
}

function readableId(key: string, record: unknown): string | null {
  const id = (record as Record<string, unknown> | null)?.[key];
  if (typeof id !== 'string' || id === '') return null;
  return cutBytes(exactNumber(id) ?? id, MAX_RECORD_ID_BYTES);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
