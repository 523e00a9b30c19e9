import { CONTACT, CONVERSATION, type Entity, MESSAGE } from '../entities.ts';
import { type ErrorKind, ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';
import { conversationsSince, countKnown } from '../store/comparison.ts';
import { databaseTime } from '../store/progress.ts';
import type { CountsByKind, Failed, OpenVerification, ResumeAt } from '../store/verifications.ts';
import { type CheckedPage, checkPage, type Oldest, type PageChecks } from './checked-page.ts';
import type { VerifyContext, VerifyOrder } from './context.ts';
import { leaseLost } from './lease.ts';
import { readListed } from './listed.ts';
import { note } from './note.ts';
import { ListReader, type Read } from './reader.ts';

/** Failures that may be of one conversation alone: the others are compared all the same, and the first is told then. */
const OF_ONE_CONVERSATION: ReadonlySet<ErrorKind> = new Set<ErrorKind>([
  ...(['not_found', 'bad_request', 'protocol', 'oversize', 'stalled'] as const),
]);

/** How long before the edge of the window a message may be gone already: clocks differ, and days are cut. */
const EDGE = 86_400_000;

/** One verification while it runs. */
export class Walk {
  readonly counts: CountsByKind;
  readonly #context: VerifyContext;
  readonly #connectionId: ConnectionId;
  readonly #order: VerifyOrder;
  readonly #since: string | null;
  readonly #id: string;
  readonly #reader: ListReader;
  readonly #checks: PageChecks;
  #notedAt: string;
  #position: ResumeAt;
  /** The first failure of {@link OF_ONE_CONVERSATION}. */
  #unread: Failed | undefined;
  #done = 0;
  #of = 0;

  constructor(
    context: VerifyContext,
    connectionId: ConnectionId,
    order: VerifyOrder,
    since: string | null,
    open: OpenVerification,
  ) {
    this.#context = context;
    this.#connectionId = connectionId;
    this.#order = order;
    this.#since = since;
    this.#id = open.id;
    this.#notedAt = open.notedAt;
    this.#position = open.position;
    this.#unread = open.position.unread;
    this.counts = open.counts;
    this.#reader = new ListReader(context, connectionId, open.requests);
    this.#checks = { context, connectionId, order, since, counts: open.counts };
  }

  /** What it is noted as, and when it was last (see `noteVerification`). */
  get noted(): Pick<OpenVerification, 'id' | 'notedAt'> {
    return { id: this.#id, notedAt: this.#notedAt };
  }

  get requests(): number {
    return this.#reader.requests;
  }

  /** The whole story. */
  async all(signal: AbortSignal): Promise<void> {
    const reader = this.#reader;
    await this.#context.settle(this.#connectionId, signal);
    if (this.#position.stage === 'contacts') {
      await this.#wholeList(CONTACT, () => reader.contacts(signal), signal);
      await this.#keep({ stage: 'conversations' });
    }
    const read = () => reader.conversations(signal);
    const compared = this.#position.stage === 'conversations';
    const listed = compared ? await this.#wholeList(CONVERSATION, read, signal) : await this.#ids(read);
    const begun = compared ? undefined : this.#position;
    const all = [...new Set([...listed, ...(await this.#stored())])].sort();
    this.#of = all.length;
    for (const id of all) {
      const isNext = begun?.conversation === undefined || id > begun.conversation;
      if (isNext) await this.#keep({ stage: 'messages', conversation: id });
      if (isNext || id === begun.conversation) {
        try {
          await this.#messages(id, listed, signal);
        } catch (error) {
          if (!(error instanceof ReplicaError && OF_ONE_CONVERSATION.has(error.kind))) throw error;
          this.#unread ??= { kind: error.kind, message: error.message };
        }
      }
      this.#done++;
    }
    if (this.#unread !== undefined) {
      const { kind, message: where } = this.#unread;
      throw new ReplicaError(kind as ErrorKind, { where });
    }
  }

  /** Conversations that the upstream may not list, but serve: those with messages here that it should still have. */
  async #stored(): Promise<string[]> {
    const { db, window } = this.#context;
    const edge = this.#since ?? new Date(Date.now() - window).toISOString();
    return await conversationsSince(db, this.#connectionId, edge);
  }

  /** A list that is not paged. @returns the ids in it. */
  async #wholeList(entity: Entity, read: () => Promise<Read>, signal: AbortSignal): Promise<Set<string>> {
    const storedBefore = await databaseTime(this.#context.db);
    const { ids, known, target } = await checkPage(this.#checks, entity, read, storedBefore, signal);
    const stored = await countKnown(this.#context.db, entity, target);
    this.counts[entity.kind].not_served += Math.max(0, stored - known);
    return new Set(ids);
  }

  /** The ids of a list that is not compared. */
  async #ids(read: () => Promise<Read>): Promise<Set<string>> {
    const { list, release } = await read();
    release();
    return new Set(readListed(CONVERSATION, list).good.map(({ id }) => id));
  }

  /** A conversation's messages, from the newest back to the edge of what is served. */
  async #messages(id: string, listed: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const { db } = this.#context;
    const at = this.#position;
    const begun = at.begun ?? (await databaseTime(db));
    let known = at.known ?? 0;
    let last: Oldest | undefined = at.before === undefined ? undefined : { id: at.before, sentAt: at.sentAt };
    for (;;) {
      const read = () => this.#reader.messages(id, last?.id, signal);
      let page: CheckedPage;
      try {
        page = await checkPage(this.#checks, MESSAGE, read, begun, signal);
      } catch (error) {
        if (!(error instanceof ReplicaError && error.kind === 'not_found')) throw error;
        // The message that it went back to has left the window meanwhile, and what is older with it; or the whole
        // conversation is gone. Where it is listed all the same, something is wrong.
        const isListed = listed.has(id);
        if (last === undefined ? isListed : !this.#mayBeForgotten(last.sentAt)) {
          if (!isListed || (await this.#isListed(id, signal))) throw error;
        }
        break;
      }
      known += page.known;
      const { oldest, hasMore } = page;
      if (!hasMore || this.#isBeyond(oldest?.sentAt)) break;
      if (oldest === undefined || oldest.id === last?.id) {
        throw new ReplicaError('stalled', { where: 'the pages of a conversation do not go back' });
      }
      last = oldest;
      const to = { before: oldest.id, ...(oldest.sentAt !== undefined && { sentAt: oldest.sentAt }) };
      await this.#keep({ stage: 'messages', conversation: id, ...to, begun, known });
    }
    const asked = { connectionId: this.#connectionId, storedBefore: begun, sentAfter: this.#since };
    const stored = await countKnown(db, MESSAGE, asked, id);
    this.counts.message.not_served += Math.max(0, stored - known);
  }

  /** Whether the conversation is listed now. */
  async #isListed(id: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#ids(() => this.#reader.conversations(signal))).has(id);
  }

  /** Whether a message that was served a moment ago, or before an interruption, may have left the window since. */
  #mayBeForgotten(sentAt: string | undefined): boolean {
    return sentAt !== undefined && Date.parse(sentAt) < Date.now() - this.#context.window + EDGE;
  }

  #isBeyond(sentAt: string | undefined): boolean {
    return this.#since !== null && sentAt !== undefined && Date.parse(sentAt) < Date.parse(this.#since);
  }

  async #keep(position: ResumeAt): Promise<void> {
    this.#position = { ...position, ...(this.#unread && { unread: this.#unread }) };
    const { counts, requests } = this;
    const { stage } = position;
    this.#order.onProgress?.({
      stage,
      conversations: this.#done,
      ofConversations: this.#of,
      requests,
      counts,
    });
    const stands = {
      state: 'running' as const,
      position: this.#position,
      counts,
      requests,
      ledgerProblems: 0,
    };
    const notedAt = await note(this.#context, this.#connectionId, this.noted, stands);
    if (notedAt === undefined) throw leaseLost();
    this.#notedAt = notedAt;
  }
}
