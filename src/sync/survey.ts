import { createHash } from 'node:crypto';
import { parseExact } from '../lib/exact-json.ts';
import { identifier, withoutNames } from '../lib/identifiers.ts';
import type { ConnectionId, Reject, Row } from '../model.ts';
import {
  chatsOf,
  contactsOf,
  countBeside,
  datedAhead,
  groupsNaming,
  type Key,
  type LetterFound,
  lettersOf,
  type MessageFound,
  messagesOf,
  type Scope,
  type Snapshot,
} from '../store/belongings.ts';
import type { Db } from '../store/database.ts';
import type { Told } from '../store/erased-changes.ts';
import type { Redacted } from '../store/erasures.ts';
import type { Person } from '../store/person.ts';
import { jsonOf, recordOf, rejectWithout } from './redaction.ts';
import { ownersOf, snapshotOf } from './subjects.ts';

/** What there is of a person, and what an erasure does with it. */
export interface Survey {
  readonly scope: Scope;
  readonly contacts: readonly Key[];
  /** Direct chats that have a row. */
  readonly chats: readonly Key[];
  /** All direct chats, by their messages too. */
  readonly chatIds: readonly Key[];
  /** Messages of direct chats, of both sides; and those elsewhere whose very ids name the person. */
  readonly removed: readonly (Key & { readonly named: boolean })[];
  /** The person's messages in groups: tombstones then. */
  readonly blanked: readonly Redacted[];
  /** Messages of others that the person reacted to, or that mention them in what the tables do not know. */
  readonly redacted: readonly (Redacted & { readonly field: NonNullable<Told['field']> })[];
  readonly groups: readonly (Key & { readonly extra: string | null })[];
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
  const chats = await chatsOf(db, scope);
  const messages = await messagesOf(db, scope, chats);
  const groups = await groupsNaming(db, scope);
  const isTheirs = namesOf(scope.person);
  const sorted = messages.map((one) => ({ one, ...judge(one, isTheirs(one.connectionId)) }));
  const removed = sorted.flatMap(({ one, fate }) => (fate === 'removed' ? [one] : []));
  const blanked = sorted.flatMap(({ left, fate }) => (fate === 'blanked' ? [left] : []));
  const chatIds = distinct([
    ...chats,
    ...removed.flatMap(({ connectionId, conversationId: id, direct }) =>
      direct && id !== null ? [{ connectionId, id }] : [],
    ),
  ]);
  const found = await lettersOf(db, scope, [...chatIds, ...removed, ...blanked]);
  const letters = found.map((one) =>
    judgeLetter(one, isTheirs(one.connectionId), [...chatIds, ...removed, ...blanked]),
  );
  const redacted: Survey['redacted'] = sorted.flatMap(({ one, left, fate }) =>
    fate === 'redacted' ? [{ ...left, field: left.reactions === one.reactions ? 'extra' : 'reactions' }] : [],
  );
  const redactedGroups = groups.flatMap((group) => {
    const extra = redact(group.extra, isTheirs(group.connectionId));
    return extra === group.extra ? [] : [{ ...group, extra }];
  });
  return {
    ...{ scope, contacts, chats, chatIds, removed, blanked, redacted },
    groups: redactedGroups,
    letters: letters.flatMap((letter) => (letter === undefined || 'json' in letter ? [] : [letter.id])),
    redactedLetters: letters.flatMap((letter) => (letter !== undefined && 'json' in letter ? [letter] : [])),
    snapshots: [
      ...(await datedAhead(db, redacted, [...chats, ...redactedGroups])),
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
    groups,
    letters,
    redactedLetters,
    memberships,
    reactions,
  } = found;
  const lists = [contacts, chatIds, removed, blanked, redacted, groups, letters, redactedLetters];
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
  { connectionId, id, direct, theirs, named, reactions, extra }: MessageFound,
  isTheirs: IsTheirs,
): { fate: 'removed' | 'blanked' | 'redacted' | 'kept'; left: Redacted } {
  const left = { connectionId, id, reactions: redact(reactions, isTheirs), extra: redact(extra, isTheirs) };
  if (direct) return { fate: 'removed', left };
  const senders = extra === null ? [] : ownersOf('message', { extra: parseExact(extra) });
  if (theirs || senders.some(isTheirs)) return { fate: named ? 'removed' : 'blanked', left };
  return { fate: left.reactions === reactions && left.extra === extra ? 'kept' : 'redacted', left };
}

/** JSON without mentions; the text itself where there are none. */
function redact(json: string | null, isTheirs: IsTheirs): string | null {
  if (json === null) return null;
  const value = parseExact(json);
  const left = withoutNames(value, isTheirs);
  return left === value ? json : (jsonOf(left) ?? null);
}

type JudgedLetter = ({ readonly id: string } | Survey['redactedLetters'][number]) & {
  readonly snapshot: Snapshot | undefined;
};

/** What becomes of an entry of the quarantine; undefined: nothing. */
function judgeLetter(
  { id, connectionId, kind, recordId, json, bytes }: LetterFound,
  isTheirs: IsTheirs,
  records: readonly Key[],
): JudgedLetter | undefined {
  const reject: Reject = {
    ...{ kind: kind as Reject['kind'], recordId, code: '', reason: '' },
    json: bytes ?? Buffer.from(json),
  };
  const record = recordOf(reject);
  const gone = new Set(records.flatMap((one) => (one.connectionId === connectionId ? [one.id] : [])));
  const ids = [recordId, (record as Row).message_id, (record as Row).conversation_id];
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

function distinct(keys: readonly Key[]): Key[] {
  return [
    ...new Map(
      keys.map(({ connectionId, id }) => [JSON.stringify([connectionId, id]), { connectionId, id }]),
    ).values(),
  ];
}
