import { ReplicaError } from '../errors/errors.ts';
import type { ErasureKey } from '../lib/erasure-key.ts';
import { identifier, namesIn } from '../lib/identifiers.ts';
import type { ConnectionId, Kind, Reject, Row } from '../model.ts';
import type { Db } from '../store/database.ts';
import type { Forgotten } from '../store/state.ts';
import { type Learned, learn, noteReturns, storedSince } from '../store/suppressions.ts';
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

/** A record with whom it is of. */
type Owned = Subject & { readonly owners: readonly string[] };

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
    const judge = (kind: Kind, row: Row) => this.#judge.left({ kind, row });
    return batches.flatMap((batch) => sift(batch, judge, (verdict) => this.counts[verdict]++) ?? []);
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
      const verdict = this.#judge.verdict(subject);
      const left =
        verdict === 'keep'
          ? rejectWithout(reject, subject.row, (name) => this.#judge.hides(name, subject))
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
      if (kind !== 'message' || this.#judge.wasThere(subject)) continue;
      const date = dateOf(row);
      const found = owners.flatMap((name) => marks.of(name) ?? []);
      const since = Math.max(...found.map((mark) => mark.erasedAt));
      if (date === undefined) undated.push({ id: row.message_id as string, since });
      else if (date > since && !found.some((mark) => mark.forever)) {
        for (const { erasureIds, returned } of found) {
          if (!returned) for (const id of erasureIds) this.#judge.returned.add(id);
        }
      }
    }
    if (undated.length === 0) return;
    for (const id of await storedSince(this.#db, this.#connectionId, undated)) this.#judge.stored.add(id);
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
      else if (this.#judge.verdict(subject) === 'erased') add(row.message_id as string, true);
    }
    await learn(this.#db, this.#connectionId, learned);
    await noteReturns(this.#db, this.#connectionId, [...this.#judge.returned]);
  }

  /** Whether nothing of a batch is expired, as far as is known without its rows. */
  #isRecent({ kind, oldest }: Batch): boolean {
    return kind !== 'message' || (oldest !== undefined && !this.#judge.isExpired(oldest));
  }
}
