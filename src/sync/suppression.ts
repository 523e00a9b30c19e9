import { ReplicaError } from '../errors/errors.ts';
import type { ErasureKey } from '../lib/erasure-key.ts';
import { identifier, namesIn } from '../lib/identifiers.ts';
import type { ConnectionId, Kind, Reject, Row } from '../model.ts';
import type { Db } from '../store/database.ts';
import type { Forgotten } from '../store/state.ts';
import { type Learned, learn, type Mark, noteReturns, storedSince } from '../store/suppressions.ts';
import type { Batch } from './batches.ts';
import { Judge, type Suppressed } from './judge.ts';
import { Marks } from './marks.ts';
import { recordOf, rejectWithout, sift } from './redaction.ts';
import {
  dateOf,
  mentionsIn,
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

/** A record with whom it is of, and whom else it names. */
type Named = Subject & { readonly owners: readonly string[]; readonly mentions: readonly string[] };

/**
 * Keeps from being written what was erased, and messages that are older than RETAIN_MESSAGES: the one step before the
 * write of pages, retries and repairs. Names and ids are hashed and looked up in one statement; of a connection where
 * nothing was erased, in none.
 */
export class Suppression {
  readonly counts: Suppressed = { erased: 0, expired: 0 };
  readonly #db: Db;
  readonly #connectionId: ConnectionId;
  /** Undefined where nothing was erased. */
  readonly #marks: Marks | undefined;
  readonly #judge: Judge;
  readonly #refusedChats = new Set<string>();
  readonly #refused: string[] = [];

  private constructor(db: Db, connectionId: ConnectionId, marks: Marks | undefined, cutoff: number) {
    this.#db = db;
    this.#connectionId = connectionId;
    this.#marks = marks;
    this.#judge = new Judge(marks, cutoff);
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
    // By the earlier of both clocks: what is kept out for one that was put forward is not served for ever.
    const cutoff = retain === undefined ? Number.NEGATIVE_INFINITY : Math.min(now, Date.now()) - retain;
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
    const records = all.flatMap(({ kind, rows }) => rows.map((row) => ({ kind, row })));
    for (const { kind, row } of records) {
      const date = kind === 'message' ? dateOf(row) : undefined;
      if (date !== undefined && this.#judge.isExpired(date))
        this.#judge.expired.add(row.message_id as string);
    }
    await this.#learnOf(records);
    const judge = (kind: Kind, row: Row) => this.#judge.left({ kind, row });
    const left = batches.flatMap((batch) => sift(batch, judge, (verdict) => this.counts[verdict]++) ?? []);
    for (const id of chatIds(batches)) this.#refusedChats.add(id);
    for (const id of chatIds(left)) this.#refusedChats.delete(id);
    return left;
  }

  /** Messages that are known only now to be of somebody erased: what came of them before, and named nobody, goes too. */
  get refused(): readonly string[] {
    return this.#refused;
  }

  /** What is left of rows of a kind, in their order; undefined of those that must not be there. Writes nothing. */
  async rows(kind: Kind, rows: readonly Row[]): Promise<(Row | undefined)[]> {
    await this.#look(rows.map((row) => ({ kind, row })));
    return rows.map((row) => {
      const left = this.#judge.left({ kind, row });
      return typeof left === 'string' ? undefined : left;
    });
  }

  /** What is left to be put aside of records that cannot be stored: of somebody else's, all but mentions. */
  async rejects(rejects: readonly Reject[]): Promise<Reject[]> {
    const read = rejects.map((reject) => ({ reject, kind: reject.kind, row: recordOf(reject), raw: true }));
    await this.#look(read);
    return read.flatMap(({ reject, ...subject }) => {
      // Of a chat that must not be there nothing is put aside either: its very id may be a number.
      const isOfRefused = this.#refusedChats.has(reject.conversationId ?? '');
      const verdict = isOfRefused ? 'erased' : this.#judge.verdict(subject);
      const left =
        verdict === 'keep'
          ? rejectWithout(reject, subject.row, (name) => this.#judge.hides(name, subject))
          : undefined;
      if (left !== undefined) return [left];
      this.counts[verdict === 'keep' ? 'erased' : verdict]++;
      return [];
    });
  }

  /** Finds what the ledger knows of everything that these records name. */
  async #look(records: readonly Subject[]): Promise<void> {
    if (this.#marks === undefined) return;
    const named = records.flatMap(withMembers).map(namedBy);
    await this.#ask(named, this.#marks);
    await this.#lookBack(named, this.#marks);
  }

  async #ask(records: readonly Named[], marks: Marks): Promise<void> {
    const asked = new Set<string>();
    for (const { kind, row, owners, mentions } of records) {
      for (const name of owners) asked.add(name);
      for (const name of mentions) asked.add(name);
      if (kind === 'message' && typeof row.message_id === 'string') asked.add(row.message_id);
    }
    await marks.ask(asked);
    // What seems to be from after an erasure: whether it was there already. Mostly that is nothing, and asks nothing.
    await marks.ask(
      records.flatMap(({ owners, mentions, ...subject }) => {
        const snapshot = snapshotOf(subject);
        if (snapshot === undefined) return [];
        const seemsLater = (name: string) => snapshot.at > (marks.of(name)?.erasedAt ?? snapshot.at);
        return owners.some(seemsLater) || mentions.some(seemsLater) ? [snapshotName(snapshot)] : [];
      }),
    );
  }

  /** Who was heard of again, and which messages without a date are of a later time. */
  async #lookBack(records: readonly Named[], marks: Marks): Promise<void> {
    const undated: { id: string; since: number }[] = [];
    const latest = (found: readonly Mark[]) => Math.max(...found.map((mark) => mark.erasedAt));
    for (const { owners, mentions, ...subject } of records) {
      const { kind, row } = subject;
      const found = marks.ofAll(owners);
      const named = [...found, ...marks.ofAll(mentions)];
      // What was there at the erasure is no sign of life.
      if (kind !== 'message' || named.length === 0 || this.#judge.wasThere(subject)) continue;
      const date = dateOf(row);
      if (date === undefined) {
        if (typeof row.message_id === 'string') undated.push({ id: row.message_id, since: latest(named) });
      } else if (date > latest(found) && !found.some((mark) => mark.forever)) {
        for (const { erasureIds, returned } of found) {
          if (!returned) for (const id of erasureIds) this.#judge.returned.add(id);
        }
      }
    }
    if (undated.length > 0) await this.#date(undated, records, marks);
  }

  /** Which of these messages are of a later time, by the same page or by what is stored. */
  async #date(
    undated: readonly { readonly id: string; readonly since: number }[],
    all: readonly Named[],
    marks: Marks,
  ): Promise<void> {
    const since = new Map<unknown, number>(undated.map((one) => [one.id, one.since]));
    const here = all.flatMap(({ kind, row }) => {
      const id = row.message_id as string;
      const at = kind === 'message' && since.has(id) ? dateOf(row) : undefined;
      return at !== undefined && at > since.get(id)! ? [{ id, at }] : [];
    });
    const later = [...here, ...(await storedSince(this.#db, this.#connectionId, undated))];
    await marks.ask(later.map(snapshotName));
    for (const one of later) {
      // What was there at the erasure is none of them.
      if (!marks.isRecord(snapshotName(one))) this.#judge.stored.add(one.id);
    }
  }

  /** Learns what these records tell of the people they are of: further identifiers, and the messages that are refused, so
   * that what comes with them or later, and names less, is recognized too. */
  async #learnOf(records: readonly Subject[]): Promise<void> {
    const marks = this.#marks;
    if (marks === undefined) return;
    const learned: Learned[] = [];
    const add = (name: string, mark: Mark) => {
      learned.push({ hash: marks.hash(name), isRecord: mark.isRecord, erasureId: mark.erasureIds[0]! });
      marks.set(name, mark);
    };
    const named = records.flatMap(withMembers).map(namedBy);
    // Until nothing is new: what one record tells of a person, another of the page may name alone.
    for (let before = -1; before < learned.length; ) {
      before = learned.length;
      await this.#ask(named, marks);
      for (const { kind, owners } of named) {
        // A message names others too: who sent it into whose chat.
        const [mark] = kind === 'message' ? [] : marks.ofAll(owners);
        if (mark !== undefined) for (const name of owners) if (marks.isUnknown(name)) add(name, mark);
      }
    }
    await this.#lookBack(named, marks);
    for (const subject of named) {
      const { kind, row, owners } = subject;
      const id = row.message_id as string;
      if (kind !== 'message' || !marks.isUnknown(id) || this.#judge.verdict(subject) !== 'erased') continue;
      const found = marks.ofAll(owners);
      // One without a date may turn out to be from after the erasure.
      if (dateOf(row) === undefined && !found.some((mark) => mark.forever)) continue;
      add(id, { ...found[0]!, isRecord: true });
      this.#refused.push(id);
    }
    await learn(this.#db, this.#connectionId, learned);
    await noteReturns(this.#db, this.#connectionId, [...this.#judge.returned]);
  }

  /** Whether nothing of a batch is expired, as far as is known without its rows. */
  #isRecent({ kind, oldest }: Batch): boolean {
    return kind !== 'message' || (oldest !== undefined && !this.#judge.isExpired(oldest));
  }
}

function namedBy(subject: Subject): Named {
  const { kind, row, raw } = subject;
  const mentions: string[] = [];
  const mention = (name: string) => mentions.push(identifier(name));
  if (raw) namesIn(row, mention);
  else mentionsIn(kind, row, mention);
  return { ...subject, owners: ownersOf(kind, row), mentions };
}

function chatIds(batches: readonly Batch[]): string[] {
  const chats = batches.filter(({ kind }) => kind === 'conversation');
  return chats.flatMap(({ rows }) => rows.map((row) => row.conversation_id as string));
}
