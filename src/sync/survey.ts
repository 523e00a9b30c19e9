import { createHash } from 'node:crypto';
import { parseExact } from '../lib/exact-json.ts';
import { identifier, withoutNames } from '../lib/identifiers.ts';
import type { ConnectionId, Reject, Row } from '../model.ts';
import {
  chatsOf,
  contactsOf,
  countBeside,
  datedAhead,
  type Extra,
  extrasNaming,
  type LetterFound,
  lettersOf,
  type MessageFound,
  messagesOf,
  patternOf,
  type Scope,
  type Snapshot,
} from '../store/belongings.ts';
import type { Db } from '../store/database.ts';
import type { Told } from '../store/erased-changes.ts';
import type { Redacted } from '../store/erasures.ts';
import type { Key } from '../store/keys.ts';
import type { Person } from '../store/person.ts';
import { jsonOf, recordOf, rejectWithout } from './redaction.ts';
import { ownersOf, snapshotOf } from './subjects.ts';

/** A record, and whether its very id says whose it is. */
export interface Named extends Key {
  readonly named: boolean;
}

/** What there is of a person, and what an erasure does with it. */
export interface Survey {
  readonly scope: Scope;
  readonly contacts: readonly Key[];
  /** Direct chats that have a row. */
  readonly chats: readonly Named[];
  /** All direct chats, by their messages too. */
  readonly chatIds: readonly Named[];
  /** Messages of direct chats, of both sides; and those elsewhere whose very ids name the person. */
  readonly removed: readonly Named[];
  /** The person's messages in groups: tombstones then. */
  readonly blanked: readonly Redacted[];
  /** Messages of others that the person reacted to, or that mention them in what the tables do not know. */
  readonly redacted: readonly (Redacted & { readonly field: NonNullable<Told['field']> })[];
  /** What mentions them of others' contacts, chats and members, without it. */
  readonly extras: readonly Extra[];
  /** Entries of the quarantine that go, and those that lose a mention. */
  readonly letters: readonly string[];
  readonly redactedLetters: readonly {
    readonly id: string;
    readonly json: string;
    readonly sha256: string;
  }[];
  /** What might be dated ahead of the erasure, and must not pass for later; messages that are removed or blanked are known
   * by their ids. */
  readonly snapshots: readonly Snapshot[];
  readonly memberships: number;
  readonly reactions: number;
}

/** Looks for everything of a person on some connections. Writes and locks nothing. */
export async function survey(db: Db, scope: Scope): Promise<Survey> {
  const contacts = await contactsOf(db, scope);
  const names = new RegExp(patternOf(scope.person));
  const named = ({ connectionId, id }: Key) => ({ connectionId, id, named: names.test(id) });
  const chats = (await chatsOf(db, scope)).map(named);
  const messages = await messagesOf(db, scope, chats);
  const isTheirs = namesOf(scope.person);
  const sorted = messages.map((one) => ({ one, ...judge(one, isTheirs(one.connectionId)) }));
  const removed = sorted.flatMap(({ one, fate }) => (fate === 'removed' ? [one] : []));
  const blanked = sorted.flatMap(({ left, fate }) => (fate === 'blanked' ? [left] : []));
  const chatIds = distinct([
    ...chats,
    // Not those that are stored and no direct chat of theirs: a group stays, whatever a message says of itself.
    ...removed.flatMap(({ connectionId, conversationId: id, direct, chatKnown }) =>
      direct && !chatKnown && id !== null ? [{ connectionId, id }] : [],
    ),
  ]).map(named);
  const found = await lettersOf(db, scope, [...chatIds, ...removed, ...blanked]);
  const letters = found.map((one) =>
    judgeLetter(one, isTheirs(one.connectionId), [...chatIds, ...removed, ...blanked]),
  );
  const redacted = sorted.flatMap(({ one, left, fate }) =>
    fate === 'redacted' ? [{ ...left, field: differing(one, left) }] : [],
  );
  const extras = (await extrasNaming(db, scope, contacts, chatIds)).flatMap((one) => {
    const extra = redact(one.extra, isTheirs(one.connectionId));
    return extra === one.extra ? [] : [{ ...one, extra }];
  });
  return {
    ...{ scope, contacts, chats, chatIds, removed, blanked, redacted },
    extras,
    letters: letters.flatMap((letter) => (letter === undefined || 'json' in letter ? [] : [letter.id])),
    redactedLetters: letters.flatMap((letter) => (letter !== undefined && 'json' in letter ? [letter] : [])),
    snapshots: [
      ...(await datedAhead(db, redacted, [...chats, ...extras])),
      ...letters.flatMap((letter) => letter?.snapshot ?? []),
    ],
    ...(await countBeside(db, scope, chatIds, removed)),
  };
}

/** Whether there is anything to erase. */
export function isEmpty(found: Survey): boolean {
  const {
    contacts,
    chatIds,
    removed,
    blanked,
    redacted,
    extras,
    letters,
    redactedLetters,
    memberships,
    reactions,
  } = found;
  const lists = [contacts, chatIds, removed, blanked, redacted, extras, letters, redactedLetters];
  return memberships + reactions === 0 && lists.every((list) => list.length === 0);
}

type IsTheirs = (name: string) => boolean;

function namesOf({ jids, ids }: Person): (connectionId: ConnectionId) => IsTheirs {
  return (connectionId) => {
    const own = new Set(ids.flatMap((id) => (id.connectionId === connectionId ? [id.personId] : [])));
    return (name) => own.has(name) || jids.has(identifier(name));
  };
}

function judge(
  { connectionId, id, direct, theirs, named, reactions, extra, replyTo }: MessageFound,
  isTheirs: IsTheirs,
): { fate: 'removed' | 'blanked' | 'redacted' | 'kept'; left: Redacted } {
  const left = {
    ...{ connectionId, id, reactions: redact(reactions, isTheirs), extra: redact(extra, isTheirs) },
    replyTo: withoutNames(replyTo, isTheirs),
  };
  if (direct) return { fate: 'removed', left };
  const senders = extra === null ? [] : ownersOf('message', { extra: parseExact(Buffer.from(extra)) });
  if (theirs || senders.some(isTheirs)) return { fate: named ? 'removed' : 'blanked', left };
  const isSame = left.reactions === reactions && left.extra === extra && left.replyTo === replyTo;
  return { fate: isSame ? 'kept' : 'redacted', left };
}

/** The field that the change feed tells of. */
function differing(one: MessageFound, left: Redacted): 'reactions' | 'extra' | 'reply_to_wa_id' {
  if (left.reactions !== one.reactions) return 'reactions';
  return left.extra !== one.extra ? 'extra' : 'reply_to_wa_id';
}

/** JSON without mentions; the text itself where there are none. */
function redact(json: string | null, isTheirs: IsTheirs): string | null {
  if (json === null) return null;
  const value = parseExact(Buffer.from(json));
  const left = withoutNames(value, isTheirs);
  return left === value ? json : (jsonOf(left) ?? null);
}

type JudgedLetter = ({ readonly id: string } | Survey['redactedLetters'][number]) & {
  readonly snapshot: Snapshot | undefined;
};

/** What becomes of an entry of the quarantine; undefined: nothing. */
function judgeLetter(
  { id, connectionId, kind, recordId, conversationId, json, bytes }: LetterFound,
  isTheirs: IsTheirs,
  records: readonly Key[],
): JudgedLetter | undefined {
  const reject: Reject = {
    ...{ kind: kind as Reject['kind'], recordId, code: '', reason: '' },
    json: bytes ?? Buffer.from(json),
  };
  const record = recordOf(reject);
  const gone = new Set(records.flatMap((one) => (one.connectionId === connectionId ? [one.id] : [])));
  const ids = [recordId, conversationId, (record as Row).message_id, (record as Row).conversation_id];
  const isOfThem = ids.some((one) => typeof one === 'string' && gone.has(one));
  const moment = snapshotOf({ kind: reject.kind, row: record });
  const snapshot = moment && { connectionId, ...moment };
  if (isOfThem || ownersOf(reject.kind, record).some(isTheirs)) return { id, snapshot };
  const left = rejectWithout(reject, record, isTheirs);
  if (left === reject) return undefined;
  if (left === undefined) return { id, snapshot };
  const sha256 = createHash('sha256').update(left.json).digest('hex');
  return { id, snapshot, json: left.json.toString(), sha256 };
}

/** Each key once. */
export function distinct(keys: readonly Key[]): Key[] {
  return [
    ...new Map(
      keys.map(({ connectionId, id }) => [JSON.stringify([connectionId, id]), { connectionId, id }]),
    ).values(),
  ];
}
