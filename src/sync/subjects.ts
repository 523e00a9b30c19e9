import { identifier, namesIn, phoneJid } from '../lib/identifiers.ts';
import type { Kind, Row } from '../model.ts';

/*
 * Whom a record is of, for what must not come back (R20). Records are taken as rows, and as they came where they cannot
 * be stored: whatever is not text where a name is expected names nobody.
 */

/** A record's kind; participants are one of their own where they are quarantined. */
export type SubjectKind = Kind | 'participant';

export interface Subject {
  readonly kind: SubjectKind;
  readonly row: Row;
  /** It is as it came, since it cannot be stored. */
  readonly raw?: boolean;
}

const GROUP = /@(g\.us|broadcast|newsletter)$/;

/** Keys of `extra`, or of a raw record, that say whose a message is. */
const SENDERS = /^(sender|author|from)_/;

/** The identifiers that make a record a person's: of a message who sent it, and whose direct chat it is in. */
export function ownersOf(kind: SubjectKind, row: Row): string[] {
  switch (kind) {
    case 'contact': {
      const phone = text(row.phone_e164);
      return texts(row.person_id, row.phone_jid, row.lid_jid, phone && (phoneJid(phone) ?? phone));
    }
    case 'conversation':
      return isGroup(row) ? [] : texts(row.conversation_id, row.chat_jid, row.direct_person_id);
    case 'participant':
      return texts(row.participant_jid, row.person_id);
    default:
      return texts(
        ...[row.conversation_id, row.chat_jid, row.sender_jid],
        ...sendersIn(row),
        ...sendersIn((row.extra ?? {}) as Row),
      );
  }
}

/** A record, and the members in it. */
export function withMembers(subject: Subject): Subject[] {
  const { kind, row, raw } = subject;
  if (raw || kind !== 'conversation' || !Array.isArray(row.participants)) return [subject];
  const members = (row.participants as readonly Row[]).map((member) => ({
    kind: 'participant' as const,
    row: member,
  }));
  return [subject, ...members];
}

/** Whether a conversation has more sides than two. */
export function isGroup({ kind, chat_jid: jid }: Row): boolean {
  return kind === 'group' || (typeof jid === 'string' && GROUP.test(jid));
}

/** The parts of a row that may speak of somebody beside whose it is. */
export const OPEN_FIELDS: Readonly<Record<SubjectKind, readonly string[]>> = {
  message: ['reactions', 'extra', 'reply_to_wa_id'],
  conversation: ['extra'],
  contact: ['extra'],
  participant: ['extra'],
};

/** Calls `found` with whatever names a person in a record that may be somebody else's. */
export function mentionsIn(kind: SubjectKind, row: Row, found: (name: string) => void): void {
  for (const field of OPEN_FIELDS[kind]) {
    if (row[field] !== undefined && row[field] !== null) namesIn(row[field], found, field);
  }
}

/** When a message was sent, in milliseconds since 1970, cut; undefined where it does not say so. */
export function dateOf({ sent_at: sent, received_at: received }: Row): number | undefined {
  for (const time of [sent, received]) {
    const at = typeof time === 'string' ? Date.parse(time) : Number.NaN;
    // The upstream's "not set" is the year 1.
    if (at > NOT_SET) return at;
  }
  return undefined;
}

/** The moment that a record is judged by: of a message when it was sent, of a chat its last message's. Milliseconds since
 * 1970, cut; undefined where it has none. */
export function momentOf({ kind, row }: Subject): number | undefined {
  if (kind === 'message') return dateOf(row);
  const at = kind === 'conversation' ? Date.parse(String(row.last_message_at)) : Number.NaN;
  return Number.isNaN(at) ? undefined : at;
}

/** A record as it is at a moment; undefined where it has no id, or none that it is judged by. */
export function snapshotOf(subject: Subject): { readonly id: string; readonly at: number } | undefined {
  const { kind, row } = subject;
  const id = kind === 'message' ? row.message_id : row.conversation_id;
  const at = momentOf(subject);
  return typeof id === 'string' && at !== undefined ? { id, at } : undefined;
}

/** What the ledger of suppressions calls a record that was there at an erasure although its moment is a later one. */
export function snapshotName({ id, at }: { readonly id: string; readonly at: number }): string {
  return `${at} ${id}`;
}

const NOT_SET = Date.parse('0002-01-01T00:00:00Z');

function sendersIn(row: Row): unknown[] {
  return Object.keys(row).flatMap((key) =>
    SENDERS.test(key) && key !== 'sender_push_name' ? [row[key]] : [],
  );
}

function texts(...values: unknown[]): string[] {
  const found = new Set<string>();
  for (const value of values) {
    const one = text(value);
    if (one !== undefined) found.add(identifier(one));
  }
  return [...found];
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
