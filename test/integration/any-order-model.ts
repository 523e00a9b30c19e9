/**
 * What the tables must hold, from the words of the contract (R2, R3, R7) and by other means than the program's: no
 * SQL, no batches, one record after the other. For the property test of any order.
 */

/** A record as it came; what is absent is undefined. Ids, texts, times and objects are taken as they are. */
export type Came = Readonly<Record<string, unknown>> & { readonly seq?: bigint | undefined };

export interface ModelPage {
  readonly cursor: bigint;
  readonly messages: readonly Came[];
  readonly conversations: readonly Came[];
  readonly contacts: readonly Came[];
}

export type KindName = 'message' | 'conversation' | 'contact';
type Fields = Record<string, unknown>;

interface Version {
  readonly numbering: number;
  readonly version: bigint;
}

export interface ModelRow extends Version {
  readonly fields: Fields;
}

const KNOWN: Readonly<Record<KindName | 'participant', readonly string[]>> = {
  message: [
    'conversation_id',
    'sender_push_name',
    'content_type',
    'body',
    'status',
    'media',
    'sent_at',
    'deleted_at',
  ],
  conversation: ['subject', 'is_archived'],
  contact: ['display_name', 'company'],
  participant: ['person_id', 'role'],
};
/** Fields with a meaning of their own. A contact has no seq: one that has the field all the same keeps it unknown. */
const OWN: Readonly<Record<KindName | 'participant', readonly string[]>> = {
  message: ['message_id', 'seq'],
  conversation: ['conversation_id', 'seq', 'participants'],
  contact: ['person_id'],
  participant: ['participant_jid'],
};
const KEYS = { message: 'message_id', conversation: 'conversation_id', contact: 'person_id' } as const;
/** What makes a replaced message worth a revision. */
const TOLD_APART = ['content_type', 'body', 'media', 'deleted_at'];

export class Model {
  numbering = 1;
  readonly rows: Readonly<Record<KindName, Map<string, ModelRow>>> = {
    message: new Map(),
    conversation: new Map(),
    contact: new Map(),
  };
  /** By conversation: the fields of its members, by JID. */
  readonly members = new Map<string, Map<string, Fields>>();
  /** By message, oldest first. */
  readonly revisions = new Map<string, { fields: Fields; version: bigint; numbering: number }[]>();
  /** Outcomes of the last page. */
  outcomes: Record<string, number> = {};

  apply(page: ModelPage): void {
    this.outcomes = {};
    for (const [kind, records] of [
      ['contact', page.contacts],
      ['conversation', page.conversations],
      ['message', page.messages],
    ] as const) {
      for (const [id, versions] of byIdAndVersion(kind, records, page.cursor)) {
        for (const { version, equals } of versions) {
          const outcome = this.#one(kind, id, version, equals);
          const name = `${kind} ${outcome}`;
          this.outcomes[name] = (this.outcomes[name] ?? 0) + 1;
        }
      }
    }
  }

  /** The records of one id and version in a page. */
  #one(kind: KindName, id: string, version: bigint, equals: readonly Came[]): string {
    const stored = this.rows[kind].get(id);
    const at = { numbering: this.numbering, version };
    const newer = stored === undefined ? 1 : compare(at, stored);
    // Among equals the last counts; before it a whole one matters only to the partial ones behind it.
    const lastWhole = equals.findLastIndex((record) => !isPartial(kind, record));
    const partials = equals.slice(lastWhole + 1);
    const from = lastWhole < 0 ? (stored?.fields ?? {}) : fieldsOf(kind, equals[lastWhole]!);
    const fields = partials.reduce((known: Fields, one) => merge(known, fieldsOf(kind, one)), from);
    const members =
      kind === 'conversation'
        ? equals.findLast((one) => Array.isArray(one.participants))?.participants
        : undefined;
    const different =
      stored === undefined || text(fields) !== text(stored.fields) || this.#othersThan(id, members);
    if (kind === 'contact' && !different) return 'unchanged';
    if (newer > 0 || (newer === 0 && different)) {
      if (kind === 'message') this.#keep(id, stored, fields);
      this.rows[kind].set(id, { ...at, fields });
      if (members !== undefined) this.members.set(id, membership(members));
      return stored === undefined ? 'inserted' : newer > 0 ? 'updated' : 'amended';
    }
    if (newer === 0) return 'unchanged';
    // Older. A message of which only partial records came is completed: what they told stays.
    const incomplete = kind === 'message' && stored !== undefined && isPartial(kind, stored.fields);
    if (lastWhole < 0 || !incomplete) return 'stale';
    this.rows[kind].set(id, { ...stored, fields: merge(fields, stored.fields) });
    return 'updated';
  }

  #othersThan(id: string, members: unknown): boolean {
    if (members === undefined) return false;
    const sorted = (all: Map<string, Fields>) => text(Object.fromEntries(all));
    return sorted(membership(members)) !== sorted(this.members.get(id) ?? new Map());
  }

  #keep(id: string, stored: ModelRow | undefined, fields: Fields): void {
    if (stored === undefined || TOLD_APART.every((name) => text(stored.fields[name]) === text(fields[name])))
      return;
    // Partial records without text and media are completed, not replaced.
    const { body, media } = stored.fields;
    if (isPartial('message', stored.fields) && body === undefined && media === undefined) return;
    const { version, numbering } = stored;
    const kept = Object.fromEntries(TOLD_APART.map((name) => [name, stored.fields[name]]));
    this.revisions.set(id, [...(this.revisions.get(id) ?? []), { fields: kept, version, numbering }]);
  }
}

function compare(a: Version, b: Version): number {
  if (a.numbering !== b.numbering) return a.numbering - b.numbering;
  return a.version < b.version ? -1 : a.version > b.version ? 1 : 0;
}

function isPartial(kind: KindName, record: Fields): boolean {
  return kind === 'message' && (record.conversation_id ?? record.sent_at ?? null) === null;
}

/** By id; within it by version, ascending; within that in the page's order. */
function byIdAndVersion(kind: KindName, records: readonly Came[], cursor: bigint) {
  const ids = new Map<string, { version: bigint; equals: Came[] }[]>();
  for (const record of records) {
    const id = record[KEYS[kind]] as string;
    const version = kind === 'contact' ? cursor : (record.seq ?? cursor);
    const versions = ids.get(id) ?? [];
    ids.set(id, versions);
    const known = versions.find((one) => one.version === version);
    if (known) known.equals.push(record);
    else versions.push({ version, equals: [record] });
  }
  for (const versions of ids.values()) versions.sort((a, b) => (a.version < b.version ? -1 : 1));
  return ids;
}

/** Known fields by name, the others under `extra`; what is null is not there. */
function fieldsOf(kind: KindName | 'participant', record: Came): Fields {
  const own = OWN[kind];
  const fields: Fields = {};
  const extra: Fields = {};
  for (const [name, value] of Object.entries(record)) {
    if (own.includes(name) || value === undefined) continue;
    if (!KNOWN[kind].includes(name)) extra[name] = value;
    else if (value !== null) fields[name] = value;
  }
  return Object.keys(extra).length > 0 ? { ...fields, extra } : fields;
}

function merge(under: Fields, over: Fields): Fields {
  const extra = { ...(under.extra as Fields | undefined), ...(over.extra as Fields | undefined) };
  return { ...under, ...over, ...(Object.keys(extra).length > 0 && { extra }) };
}

/** The last of a JID counts. */
function membership(members: unknown): Map<string, Fields> {
  const all = members as (Came & { participant_jid: string })[];
  return new Map(all.map((one) => [one.participant_jid, fieldsOf('participant', one)]));
}

/** JSON with sorted keys, so that equal values are equal texts. */
export function text(value: unknown): string {
  return (
    JSON.stringify(value, (_, one: unknown) => {
      if (typeof one === 'bigint') return Number.isSafeInteger(Number(one)) ? Number(one) : one.toString();
      if (typeof one !== 'object' || one === null || Array.isArray(one)) return one;
      return Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)));
    }) ?? 'absent'
  );
}
