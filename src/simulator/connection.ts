/**
 * One paired account: its records, its change log, and everything that may happen to them. Each method that changes
 * a record gives it the next seq, as an upstream would; tests may call them directly.
 */
import type { Kind } from '../model.ts';
import { ChangeLog } from './changelog.ts';
import { Ids } from './ids.ts';
import { identity, pushName } from './people.ts';
import { hashText, mix, Random } from './random.ts';
import {
  Conversation,
  type Member,
  Message,
  type NewMessage,
  Person,
  type PersonTraits,
  RawRecord,
  type RawText,
  type Role,
  type Status,
} from './records.ts';
import { defaultSyncManner, type SyncManner } from './sync.ts';
import { instantMs } from './times.ts';
import { SENT, type Wording } from './wire.ts';

/** How long the upstream remembers messages, from its documentation: 30 days. Milliseconds. */
const WINDOW_MS = 30 * 86_400_000;

/** The connection's condition, as `/v1/whatsapp/status` tells it. */
export interface ConnectionState {
  /** False: every data route answers 409. */
  paired: boolean;
  connected: boolean;
  /** False: every data route answers 503. */
  ready: boolean;
  error: string;
}

export class Connection implements Wording {
  readonly id: string;
  readonly salt: number;
  readonly log: ChangeLog;
  readonly people: Person[] = [];
  readonly conversations: Conversation[] = [];
  readonly messages: Message[] = [];
  readonly raws: RawRecord[] = [];
  readonly state: ConnectionState = { paired: true, connected: true, ready: true, error: '' };
  /** How the sync endpoint deals with what the documents leave open. */
  readonly sync: SyncManner = defaultSyncManner();
  /** Drives this connection's own traffic. */
  random: Random;
  readonly lastConnectedAt: number;
  readonly #now: () => number;
  readonly #ids: Ids;

  /** @param now the world's clock, milliseconds since the epoch. */
  constructor(id: string, seed: number, startSeq: bigint, now: () => number) {
    this.id = id;
    this.salt = mix(seed, hashText(id));
    this.#ids = new Ids(this.salt);
    this.log = new ChangeLog(startSeq);
    this.random = new Random(this.salt);
    this.#now = now;
    this.lastConnectedAt = Math.floor(now() / 1000) - (this.salt % 100_000);
  }

  /** The account's own JID. */
  get jid(): string {
    return `${identity(899_999_999, this.salt).phone}@s.whatsapp.net`;
  }

  messageId(index: number): string {
    return this.#ids.id('msg', index);
  }

  waMessageId(index: number): string {
    return this.#ids.waMessageId(index);
  }

  messageById(id: string): Message | undefined {
    return this.#ids.find(this.messages, 'msg', id);
  }

  conversationById(id: string): Conversation | undefined {
    return this.#ids.find(this.conversations, 'cnv', id);
  }

  personById(id: string): Person | undefined {
    return this.#ids.find(this.people, 'per', id);
  }

  /** Whether a message is still within the upstream's memory. */
  served(message: Message): boolean {
    return this.sentAtMs(message) >= this.#now() - WINDOW_MS;
  }

  /** The instant in the message's `sent_at`, milliseconds, cut. */
  sentAtMs(message: Message): number {
    return instantMs(message.sentAt, mix(message.index, SENT));
  }

  /** The sync cursor at which a replica has everything. */
  get newest(): bigint {
    return this.log.newest;
  }

  addPerson(traits: PersonTraits): Person {
    const index = this.people.length;
    const who = identity(index, this.salt);
    const name = mix(index, this.salt ^ 77) % 12 === 0 ? '' : pushName(who, index, 0);
    const person = new Person(index, this.#ids.id('per', index), who, name, traits);
    this.people.push(person);
    this.log.append(person);
    return person;
  }

  addDirect(person: Person): Conversation {
    person.hasChat = true;
    const members: Member[] = [
      { person: null, jid: this.jid, role: 'member' },
      { person, jid: person.jid, role: 'member' },
    ];
    return this.#addConversation(person.jid, person, null, members);
  }

  addGroup(subject: string, people: readonly Person[]): Conversation {
    const members: Member[] = [{ person: null, jid: this.jid, role: 'superadmin' }];
    for (const person of people)
      members.push({ person, jid: person.jid, role: members.length === 1 ? 'admin' : 'member' });
    const digits = 120_363_000_000_000_000n + BigInt(mix(this.conversations.length, this.salt));
    return this.#addConversation(`${digits}@g.us`, null, subject, members);
  }

  addMessage(of: NewMessage): Message {
    const { conversation } = of;
    const sender = of.sender ?? null;
    const index = this.messages.length;
    const sentAt = Math.floor((of.sentAt ?? this.#now()) / 1000);
    const message = new Message(index, {
      conversation,
      sender,
      senderJid: sender?.jid ?? this.jid,
      senderName: sender?.pushName ?? '',
      contentType: of.contentType ?? 'text',
      body: of.body ?? 1 + (mix(index, this.salt) >>> 2),
      media: of.media ?? 0,
      replyTo: of.replyTo ?? null,
      sentAt,
      receivedAt: sender ? sentAt + (mix(index, 83) % 3) : 0,
    });
    this.messages.push(message);
    const list = conversation.messages;
    // One that comes late (a phone that was off) goes to where its time belongs.
    let place = list.length;
    while (place > 0 && list[place - 1]!.sentAt > sentAt) place--;
    if (place === list.length) list.push(message);
    else list.splice(place, 0, message);
    this.log.append(message);
    if (of.touchConversation !== false) {
      conversation.lastMessageAt = Math.max(conversation.lastMessageAt, sentAt);
      this.log.append(conversation);
    }
    return message;
  }

  setStatus(message: Message, status: Status): void {
    message.status = status;
    this.log.append(message);
  }

  /** @param body a text, or the seed of one. */
  editMessage(message: Message, body: string | number): void {
    message.body = body;
    message.editedAt = this.#seconds();
    this.log.append(message);
  }

  /** Deleted for everybody: the record stays, without body and media. */
  deleteMessage(message: Message): void {
    message.body = 0;
    message.media = 0;
    message.deletedAt = this.#seconds();
    this.log.append(message);
  }

  /** Adds, replaces, or with an empty emoji takes back, one person's reaction (null = the account's own). */
  react(message: Message, person: Person | null, emoji: string): void {
    const jid = person?.jid ?? this.jid;
    const others = (message.reactions ?? []).filter((reaction) => reaction.jid !== jid);
    message.reactions = emoji === '' ? others : [...others, { jid, emoji, at: this.#seconds() }];
    this.log.append(message);
  }

  /** The phone number behind a privacy id becomes known. */
  resolvePhone(person: Person): void {
    person.phoneKnown = true;
    this.log.append(person);
  }

  /** A new push name; with a text, a new display name. */
  rename(person: Person, displayName?: string): void {
    if (displayName !== undefined) person.displayName = displayName;
    else person.pushName = pushName(person.who, person.index, ++person.nameVersion);
    this.log.append(person);
  }

  setSubject(conversation: Conversation, subject: string): void {
    conversation.subject = subject;
    this.log.append(conversation);
  }

  setArchived(conversation: Conversation, archived: boolean): void {
    conversation.archived = archived;
    this.log.append(conversation);
  }

  /** Adds, promotes or demotes with a role; with null removes. */
  setMember(conversation: Conversation, person: Person, role: Role | null): void {
    const others = conversation.members.filter((member) => member.person !== person);
    conversation.members = role === null ? others : [...others, { person, jid: person.jid, role }];
    this.log.append(conversation);
  }

  /** Gives any record the next seq without changing it. */
  touch(record: Person | Conversation | Message): void {
    this.log.append(record);
  }

  /**
   * Puts a record of the test's own making into the stream, served exactly as written at its seq: a bad one, or a
   * good one with chosen content. A function is given the seq that the record has on the wire. The truth leaves it
   * out unless asked.
   */
  injectRaw(kind: Kind, text: RawText): RawRecord {
    const record = new RawRecord(kind, text);
    this.raws.push(record);
    this.log.append(record);
    return record;
  }

  /** The raw record changes: another text, the next seq. */
  replaceRaw(record: RawRecord, text: RawText): void {
    record.text = text;
    this.log.append(record);
  }

  /** Re-paired: the same records, numbered anew from `startSeq`. What the window has passed is not among them. */
  restartNumbering(startSeq = 1n): void {
    this.log.restart(startSeq);
  }

  #addConversation(
    jid: string,
    direct: Person | null,
    subject: string | null,
    members: Member[],
  ): Conversation {
    const index = this.conversations.length;
    const conversation = new Conversation(index, this.#ids.id('cnv', index), jid, direct, subject, members);
    this.conversations.push(conversation);
    this.log.append(conversation);
    return conversation;
  }

  #seconds(): number {
    return Math.floor(this.#now() / 1000);
  }
}
