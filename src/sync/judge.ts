import { identifier } from '../lib/identifiers.ts';
import type { Kind, Row } from '../model.ts';
import type { Mark } from '../store/suppressions.ts';
import type { Marks } from './marks.ts';
import { withoutMentions } from './redaction.ts';
import { dateOf, isGroup, momentOf, ownersOf, type Subject, snapshotName, snapshotOf } from './subjects.ts';

/** Records that came and were not to be written. */
export interface Suppressed {
  /** Of what was erased (R20). */
  erased: number;
  /** Messages that are older than RETAIN_MESSAGES. */
  expired: number;
}

export type Verdict = 'keep' | keyof Suppressed;

/**
 * Judges records by what is known of who was erased, and by their age.
 *
 * A message is suppressed where it was removed, or is the person's and from before the erasure; one without a date
 * unless it is stored as a later one. A direct chat is where its last message is not later. What has no date at all (a
 * contact, a membership) waits until there is a message with the person from after the erasure; after `--forever`
 * nothing of the person comes at all. Reactions are as old as their message. What was there at the erasure is from before
 * it whatever its date: clocks differ.
 */
export class Judge {
  /** Undefined where nothing was erased. */
  readonly #marks: Marks | undefined;
  readonly #cutoff: number;
  /** Erasures whose person was heard of again. */
  readonly returned = new Set<string>();
  /** Messages that came without a date, and are stored with a later one, or come with it. */
  readonly stored = new Set<string>();
  /** Messages of this page that are older than RETAIN_MESSAGES: what only adds to one has no date. */
  readonly expired = new Set<string>();

  /** @param cutoff messages from before are expired; milliseconds since 1970. */
  constructor(marks: Marks | undefined, cutoff: number) {
    this.#marks = marks;
    this.#cutoff = cutoff;
  }

  /** Whether messages of a moment are older than RETAIN_MESSAGES. */
  isExpired(at: number): boolean {
    return at < this.#cutoff;
  }

  /** What is left of a row; why it must not be written, where it is that. */
  left(subject: Subject & { kind: Kind }): Row | keyof Suppressed {
    const verdict = this.verdict(subject);
    if (verdict !== 'keep') return verdict;
    if (this.#marks === undefined) return subject.row;
    const { kind, row } = subject;
    // A chat with the person that may come has its own date, and its members have none.
    const isTheirs = kind === 'conversation' && this.#isOfErased(subject);
    const isGone = (member: Row) =>
      !isTheirs && this.verdict({ kind: 'participant', row: member }) !== 'keep';
    return withoutMentions(kind, row, (name) => this.hides(name, subject), isGone);
  }

  /** Whether a record may be written at all. */
  verdict(subject: Subject): Verdict {
    const { kind, row } = subject;
    const date = kind === 'message' ? dateOf(row) : undefined;
    if (kind === 'message' && this.#isExpired(row, date)) return 'expired';
    if (this.#marks === undefined) return 'keep';
    if (kind === 'message' && this.#marks.isRecord(String(row.message_id))) return 'erased';
    for (const name of ownersOf(kind, row)) {
      const mark = this.#marks.of(name);
      if (mark !== undefined && !this.#isLater(mark, subject)) return 'erased';
    }
    return 'keep';
  }

  #isExpired({ message_id: id }: Row, date: number | undefined): boolean {
    return date === undefined ? this.expired.has(id as string) : this.isExpired(date);
  }

  #isOfErased({ kind, row }: Subject): boolean {
    return ownersOf(kind, row).some((name) => this.#marks?.of(name) !== undefined);
  }

  /** Whether a record of a person is from after the erasure, and may come. */
  #isLater(mark: Mark, subject: Subject): boolean {
    const { kind, row } = subject;
    if (mark.forever) return false;
    if (kind !== 'message' && this.#hasReturned(mark)) return true;
    const at = momentOf(subject);
    if (at !== undefined) return at > mark.erasedAt && !this.wasThere(subject);
    return kind === 'message' && this.stored.has(row.message_id as string);
  }

  /** Whether a person must not be mentioned in a record that is somebody else's. */
  hides(name: string, subject: Subject): boolean {
    const mark = this.#marks?.of(identifier(name));
    if (mark === undefined) return false;
    // A group has a date, and its members have none.
    const isOfGroup = subject.kind === 'conversation' && isGroup(subject.row);
    return !this.#isLater(mark, isOfGroup ? { ...subject, kind: 'participant' } : subject);
  }

  #hasReturned({ returned, erasureIds }: Mark): boolean {
    return returned || erasureIds.every((id) => this.returned.has(id));
  }

  /** Whether a record was there when the person was erased, so that its date, if later, is none to go by. */
  wasThere(subject: Subject): boolean {
    const { kind, row } = subject;
    const snapshot = snapshotOf(subject);
    return (
      (kind === 'message' && this.#marks?.isRecord(String(row.message_id)) === true) ||
      (snapshot !== undefined && this.#marks?.isRecord(snapshotName(snapshot)) === true)
    );
  }
}
