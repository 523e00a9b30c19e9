import { ReplicaError } from '../errors.ts';
import type { ErasureKey } from '../lib/erasure-key.ts';
import { identifier, namesIn } from '../lib/identifiers.ts';
import type { ConnectionId, Kind, Reject, Row } from '../model.ts';
import type { Db } from '../store/database.ts';
import type { Forgotten } from '../store/state.ts';
import { type Learned, learn, type Mark, noteReturns, storedSince } from '../store/suppressions.ts';
import type { Batch } from './batches.ts';
import { Marks } from './marks.ts';
import { recordOf, rejectWithout, sift, withoutMentions } from './redaction.ts';
import {
  dateOf,
  isGroup,
  mentionsIn,
  momentOf,
  ownersOf,
  type Subject,
  snapshotName,
  snapshotOf,
  withMembers,
} from './subjects.ts';

/** What the settings say of forgetting. */
export interface Forgetting {
  readonly key: ErasureKey | undefined;
  /** RETAIN_MESSAGES in milliseconds; undefined: for ever. */
  readonly retain: number | undefined;
}

/** Records that came and were not to be written. */
export interface Suppressed {
  /** Of what was erased (R20). */
  erased: number;
  /** Messages that are older than RETAIN_MESSAGES. */
  expired: number;
}

export type Verdict = 'keep' | keyof Suppressed;

/** A record with whom it is of. */
type Owned = Subject & { readonly owners: readonly string[] };

/**
 * Keeps from being written what was erased, and messages that are older than RETAIN_MESSAGES: the one step before the
 * write of pages, retries and repairs. Names and ids are hashed and looked up in one statement; of a connection where
 * nothing was erased, in none.
 *
 * A message is suppressed where it was removed, or is the person's and from before the erasure; one without a date
 * unless it is stored as a later one. A direct chat is where its last message is not later. What has no date at all (a
 * contact, a membership) waits until there is a message with the person from after the erasure; after `--forever`
 * nothing of the person comes at all. Reactions are as old as their message. What was there at the erasure is from before
 * it whatever its date: clocks differ.
 */
export class Suppression {
  readonly counts: Suppressed = { erased: 0, expired: 0 };
  readonly #db: Db;
  readonly #connectionId: ConnectionId;
  /** Undefined where nothing was erased. */
  readonly #marks: Marks | undefined;
  /** Messages from before are expired; milliseconds since 1970. */
  readonly #cutoff: number;
  /** Erasures whose person was heard of again. */
  readonly #returned = new Set<string>();
  /** Messages without a date that are stored with a later one. */
  readonly #stored = new Set<string>();

  private constructor(db: Db, connectionId: ConnectionId, marks: Marks | undefined, cutoff: number) {
    this.#db = db;
    this.#connectionId = connectionId;
    this.#marks = marks;
    this.#cutoff = cutoff;
  }

  /**
   * @param state of the connection; of a writer, as it is behind its lock.
   * @returns undefined where everything may be written.
   * @throws ReplicaError `erasure_key` where something was erased, and under another key than this one.
   */
  static of(
    db: Db,
    connectionId: ConnectionId,
    { suppressedBy, now }: Forgotten,
    { key, retain }: Forgetting,
  ): Suppression | undefined {
    if (suppressedBy === null && retain === undefined) return undefined;
    if (suppressedBy !== null && key?.fingerprint !== suppressedBy) {
      const where = key === undefined ? 'ERASURE_KEY is not set' : 'ERASURE_KEY is not that of the erasures';
      throw new ReplicaError('erasure_key', { where });
    }
    const cutoff = retain === undefined ? Number.NEGATIVE_INFINITY : now - retain;
    const marks = suppressedBy === null || key === undefined ? undefined : new Marks(db, connectionId, key);
    return new Suppression(db, connectionId, marks, cutoff);
  }

  /** Batches without what must not be written, and without mentions of who was erased. */
  async batches(batches: readonly Batch[]): Promise<Batch[]> {
    if (this.#marks === undefined && batches.every((batch) => this.#isRecent(batch))) return [...batches];
    const all = batches.flatMap((batch) => [
      batch,
      ...batch.rows.flatMap((row) => batch.parts?.get(row) ?? []),
    ]);
    await this.#learnOf(
      await this.#look(all.flatMap(({ kind, rows }) => rows.map((row) => ({ kind, row })))),
    );
    const judge = (kind: Kind, row: Row) => this.#left({ kind, row });
    return batches.flatMap((batch) => sift(batch, judge, (verdict) => this.counts[verdict]++) ?? []);
  }

  /** What is left of rows of a kind, in their order; undefined of those that must not be there. Writes nothing. */
  async rows(kind: Kind, rows: readonly Row[]): Promise<(Row | undefined)[]> {
    await this.#look(rows.map((row) => ({ kind, row })));
    return rows.map((row) => {
      const left = this.#left({ kind, row });
      return typeof left === 'string' ? undefined : left;
    });
  }

  /** What is left to be put aside of records that cannot be stored: of somebody else's, all but mentions. */
  async rejects(rejects: readonly Reject[]): Promise<Reject[]> {
    const read = rejects.map((reject) => ({ reject, kind: reject.kind, row: recordOf(reject), raw: true }));
    await this.#look(read);
    return read.flatMap(({ reject, ...subject }) => {
      const verdict = this.#verdict(subject);
      const left =
        verdict === 'keep'
          ? rejectWithout(reject, subject.row, (name) => this.#hides(name, subject))
          : undefined;
      if (left !== undefined) return [left];
      this.counts[verdict === 'keep' ? 'erased' : verdict]++;
      return [];
    });
  }

  /** Finds what the ledger knows of everything that these records name. @returns those that are of somebody erased. */
  async #look(records: readonly Subject[]): Promise<Owned[]> {
    const marks = this.#marks;
    if (marks === undefined) return [];
    const asked = new Set<string>();
    const subjects = records.flatMap(withMembers).map((subject) => {
      const { kind, row, raw } = subject;
      const owners = ownersOf(kind, row);
      const mentions: string[] = [];
      const mention = (name: string) => mentions.push(identifier(name));
      if (raw) namesIn(row, mention);
      else mentionsIn(kind, row, mention);
      for (const name of owners) asked.add(name);
      for (const name of mentions) asked.add(name);
      if (kind === 'message' && typeof row.message_id === 'string') asked.add(row.message_id);
      return { ...subject, owners, mentions };
    });
    await marks.ask(asked);
    // What seems to be from after an erasure: whether it was there already. Mostly that is nothing, and asks nothing.
    await marks.ask(
      subjects.flatMap(({ owners, mentions, ...subject }) => {
        const snapshot = snapshotOf(subject);
        if (snapshot === undefined) return [];
        const seemsLater = (name: string) => snapshot.at > (marks.of(name)?.erasedAt ?? snapshot.at);
        return owners.some(seemsLater) || mentions.some(seemsLater) ? [snapshotName(snapshot)] : [];
      }),
    );
    const theirs = subjects.filter(({ owners }) => owners.some((name) => marks.of(name) !== undefined));
    await this.#lookBack(theirs, marks);
    return theirs;
  }

  /** Who was heard of again, and which messages without a date are of a later time. */
  async #lookBack(theirs: readonly Owned[], marks: Marks): Promise<void> {
    const undated: { id: string; since: number }[] = [];
    for (const { owners, ...subject } of theirs) {
      const { kind, row } = subject;
      // What was there at the erasure is no sign of life.
      if (kind !== 'message' || this.#wasThere(subject)) continue;
      const date = dateOf(row);
      const found = owners.flatMap((name) => marks.of(name) ?? []);
      const since = Math.max(...found.map((mark) => mark.erasedAt));
      if (date === undefined) undated.push({ id: row.message_id as string, since });
      else if (date > since && !found.some((mark) => mark.forever)) {
        for (const { erasureIds, returned } of found) {
          if (!returned) for (const id of erasureIds) this.#returned.add(id);
        }
      }
    }
    if (undated.length === 0) return;
    for (const id of await storedSince(this.#db, this.#connectionId, undated)) this.#stored.add(id);
  }

  /** Keeps what these records tell of the people they are of: further identifiers, and the messages that are refused, so
   * that what comes later and names less is recognized too. */
  async #learnOf(theirs: readonly Owned[]): Promise<void> {
    const marks = this.#marks;
    if (marks === undefined) return;
    const learned: Learned[] = [];
    for (const subject of theirs) {
      const { kind, row, owners } = subject;
      const [mark] = owners.flatMap((name) => marks.of(name) ?? []);
      const erasureId = mark!.erasureIds[0]!;
      const add = (name: string, isRecord: boolean) => {
        if (marks.isUnknown(name)) learned.push({ hash: marks.hash(name), isRecord, erasureId });
      };
      // A message names others too: who sent it into whose chat.
      if (kind !== 'message') for (const name of owners) add(name, false);
      else if (this.#verdict(subject) === 'erased') add(row.message_id as string, true);
    }
    await learn(this.#db, this.#connectionId, learned);
    await noteReturns(this.#db, this.#connectionId, [...this.#returned]);
  }

  /** Whether nothing of a batch is expired, as far as is known without its rows. */
  #isRecent({ kind, oldest }: Batch): boolean {
    return kind !== 'message' || (oldest !== undefined && oldest >= this.#cutoff);
  }

  #left(subject: Subject & { kind: Kind }): Row | keyof Suppressed {
    const verdict = this.#verdict(subject);
    if (verdict !== 'keep') return verdict;
    if (this.#marks === undefined) return subject.row;
    const { kind, row } = subject;
    const isGone = (member: Row) => this.#verdict({ kind: 'participant', row: member }) !== 'keep';
    return withoutMentions(kind, row, (name) => this.#hides(name, subject), isGone);
  }

  #verdict(subject: Subject): Verdict {
    const { kind, row } = subject;
    const date = kind === 'message' ? dateOf(row) : undefined;
    if (date !== undefined && date < this.#cutoff) return 'expired';
    if (this.#marks === undefined) return 'keep';
    if (kind === 'message' && this.#marks.isRecord(String(row.message_id))) return 'erased';
    for (const name of ownersOf(kind, row)) {
      const mark = this.#marks.of(name);
      if (mark !== undefined && !this.#isLater(mark, subject)) return 'erased';
    }
    return 'keep';
  }

  /** Whether a record of a person is from after the erasure, and may come. */
  #isLater(mark: Mark, subject: Subject): boolean {
    const { kind, row } = subject;
    if (mark.forever) return false;
    if (kind !== 'message' && this.#hasReturned(mark)) return true;
    const at = momentOf(subject);
    if (at !== undefined) return at > mark.erasedAt && !this.#wasThere(subject);
    return kind === 'message' && this.#stored.has(row.message_id as string);
  }

  /** Whether a person must not be mentioned in a record that is somebody else's. */
  #hides(name: string, subject: Subject): boolean {
    const mark = this.#marks?.of(identifier(name));
    if (mark === undefined) return false;
    // A group has a date, and its members have none.
    const isOfGroup = subject.kind === 'conversation' && isGroup(subject.row);
    return !this.#isLater(mark, isOfGroup ? { ...subject, kind: 'participant' } : subject);
  }

  #hasReturned({ returned, erasureIds }: Mark): boolean {
    return returned || erasureIds.every((id) => this.#returned.has(id));
  }

  /** Whether a record was there when the person was erased, so that its date, if later, is none to go by. */
  #wasThere(subject: Subject): boolean {
    const { kind, row } = subject;
    const snapshot = snapshotOf(subject);
    return (
      (kind === 'message' && this.#marks?.isRecord(String(row.message_id)) === true) ||
      (snapshot !== undefined && this.#marks?.isRecord(snapshotName(snapshot)) === true)
    );
  }
}
