/**
 * The records of a connection as the simulator holds them: small, because a world may hold millions. What can be
 * derived from an index or a seed is not stored; `wire.ts` writes it out. A record's JSON depends on nothing but
 * its own fields, so that it never changes without a new seq.
 */
import type { Kind } from '../model.ts';
import type { Identity } from './people.ts';

/** Anything that takes a place in the change log. */
export interface Entry {
  readonly kind: Kind;
  /** Its latest place, counted from the start of the numbering; 0 = never entered. The wire's seq = base + this. */
  seq: number;
}

/** A contact. `phoneKnown` false = only the privacy id (LID) is known. */
export class Person implements Entry {
  seq = 0;
  readonly index: number;
  readonly id: string;
  readonly who: Identity;
  /** In the address book: has names and perhaps a company; otherwise only a push name. */
  saved: boolean;
  phoneKnown: boolean;
  /** Whether this person has a privacy id at all. */
  lidKnown: boolean;
  /** Whether there is a direct chat. */
  hasChat = false;
  /** Replaces the derived display name. */
  displayName: string | null = null;
  /** Raised by a rename. */
  nameVersion = 0;
  pushName: string;

  constructor(index: number, id: string, who: Identity, pushName: string, traits: PersonTraits) {
    this.index = index;
    this.id = id;
    this.who = who;
    this.pushName = pushName;
    this.saved = traits.saved;
    this.phoneKnown = traits.phoneKnown;
    this.lidKnown = traits.lidKnown;
  }

  get kind(): 'contact' {
    return 'contact';
  }

  get phoneJid(): string {
    return `${this.who.phone}@s.whatsapp.net`;
  }

  get lidJid(): string {
    return `${this.who.lid}@lid`;
  }

  /** How others address this person today. */
  get jid(): string {
    return this.phoneKnown ? this.phoneJid : this.lidJid;
  }
}

export interface PersonTraits {
  readonly saved: boolean;
  readonly phoneKnown: boolean;
  readonly lidKnown: boolean;
}

export type Role = 'member' | 'admin' | 'superadmin';

/** `person` null = the account itself. `jid` is as it was when the person joined. */
export interface Member {
  readonly person: Person | null;
  readonly jid: string;
  role: Role;
}

export class Conversation implements Entry {
  seq = 0;
  readonly index: number;
  readonly id: string;
  readonly chatJid: string;
  /** The other side of a direct chat; null = a group. */
  readonly direct: Person | null;
  subject: string | null;
  members: Member[];
  archived = false;
  /** Seconds since the epoch; 0 = none yet. */
  lastMessageAt = 0;
  /** In order of `sentAt`, oldest first. */
  readonly messages: Message[] = [];

  constructor(
    index: number,
    id: string,
    chatJid: string,
    direct: Person | null,
    subject: string | null,
    members: Member[],
  ) {
    this.index = index;
    this.id = id;
    this.chatJid = chatJid;
    this.direct = direct;
    this.subject = subject;
    this.members = members;
  }

  get kind(): 'conversation' {
    return 'conversation';
  }
}

export type ContentType = 'text' | 'image' | 'audio' | 'video' | 'document';
export type Status = 'received' | 'sent' | 'delivered' | 'read';

/** One person's reaction; `at` in seconds. */
export interface Reaction {
  readonly jid: string;
  readonly emoji: string;
  readonly at: number;
}

/** All times are seconds since the epoch, 0 = not set; fractions are derived from the index when written out. */
export class Message implements Entry {
  seq = 0;
  readonly index: number;
  readonly conversation: Conversation;
  /** Null = sent by the account itself. */
  readonly sender: Person | null;
  readonly senderJid: string;
  readonly senderName: string;
  readonly contentType: ContentType;
  /** The seed of a phrase, or the text itself; 0 = none. */
  body: number | string;
  /** Which of the stock media files, 1 upwards; 0 = none. */
  media: number;
  status: Status;
  readonly replyTo: Message | null;
  reactions: readonly Reaction[] | null = null;
  readonly sentAt: number;
  readonly receivedAt: number;
  editedAt = 0;
  deletedAt = 0;

  constructor(index: number, of: MessageOrigin) {
    this.index = index;
    this.conversation = of.conversation;
    this.sender = of.sender;
    this.senderJid = of.senderJid;
    this.senderName = of.senderName;
    this.contentType = of.contentType;
    this.body = of.body;
    this.media = of.media;
    this.status = of.sender ? 'received' : 'sent';
    this.replyTo = of.replyTo;
    this.sentAt = of.sentAt;
    this.receivedAt = of.receivedAt;
  }

  get kind(): 'message' {
    return 'message';
  }
}

/** What is known of a message at its birth. */
export interface MessageOrigin {
  readonly conversation: Conversation;
  readonly sender: Person | null;
  readonly senderJid: string;
  readonly senderName: string;
  readonly contentType: ContentType;
  readonly body: number | string;
  readonly media: number;
  readonly replyTo: Message | null;
  readonly sentAt: number;
  readonly receivedAt: number;
}

/** What a test may say about a new message; the rest is made up from its index. */
export interface NewMessage {
  readonly conversation: Conversation;
  /** Null or absent = sent by the account itself. */
  readonly sender?: Person | null;
  /** A text, or the seed of one; 0 = none. */
  readonly body?: string | number;
  readonly contentType?: ContentType;
  readonly media?: number;
  readonly replyTo?: Message | null;
  /** Milliseconds since the epoch, cut to the second; default now. */
  readonly sentAt?: number;
  /** Whether the conversation's `last_message_at` follows, which is a change of its own. Default true. */
  readonly touchConversation?: boolean;
}

/** A record whose text a test chose: served exactly so, good or bad, at its place. */
export class RawRecord implements Entry {
  seq = 0;
  readonly kind: Kind;
  text: RawText;
  removed = false;

  constructor(kind: Kind, text: RawText) {
    this.kind = kind;
    this.text = text;
  }
}

/** The text, its bytes (invalid UTF-8 too), or what writes it given the seq that it has on the wire. */
export type RawText = string | Buffer | ((seq: bigint) => string);

export type AnyRecord = Person | Conversation | Message | RawRecord;
