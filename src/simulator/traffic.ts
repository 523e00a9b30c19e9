/** What goes on at a connection while it is served: one change after another, chosen by the connection's own chance. */
import type { Connection } from './connection.ts';
import { VARIANTS } from './media.ts';
import { groupName } from './people.ts';
import { emoji } from './phrases.ts';
import type { Random } from './random.ts';
import type { ContentType, Conversation, Message, Person, Status } from './records.ts';

const DAY = 86_400_000;

/**
 * Lets one thing happen.
 * @param now the world's time, milliseconds since the epoch.
 * @param budget how many changes it may make at most, 1 or more.
 * @returns how many it made: 1, or 2 for a message that moves its conversation too.
 */
export function applyChange(connection: Connection, now: number, budget: number): number {
  const { random } = connection;
  const draw = random.int(100);
  let done = false;
  if (draw < 50) done = false;
  else if (draw < 72) done = receipt(connection, random);
  else if (draw < 80) done = reaction(connection, random);
  else if (draw < 84) done = edit(connection, random);
  else if (draw < 86) done = deletion(connection, random);
  else if (draw < 92) done = people(connection, random);
  else done = chats(connection, random);
  if (done) return 1;
  if (connection.conversations.length === 0) {
    begin(connection, random);
    return 1;
  }
  const late = random.chance(0.03) ? random.int(3 * DAY) : 0;
  inventMessage(connection, random, now - late, budget > 1);
  return budget > 1 ? 2 : 1;
}

/** A message somewhere. @param sentAt milliseconds since the epoch. */
export function inventMessage(
  connection: Connection,
  random: Random,
  sentAt: number,
  touch: boolean,
): Message {
  const conversation = chat(connection, random);
  const members = conversation.members;
  const sender = conversation.direct
    ? random.chance(0.55)
      ? conversation.direct
      : null
    : members.length > 0
      ? random.pick(members).person
      : null;
  const draw = random.int(100);
  const contentType: ContentType =
    draw < 80 ? 'text' : draw < 90 ? 'image' : draw < 95 ? 'audio' : draw < 97 ? 'video' : 'document';
  const plain = contentType === 'text';
  return connection.addMessage({
    conversation,
    sender,
    contentType,
    // Media with a caption at times; a Smi keeps the record small.
    body: plain || random.chance(0.3) ? 1 + random.int(0x3ffffffe) : 0,
    media: plain ? 0 : 1 + random.int(VARIANTS),
    replyTo: random.chance(0.08) ? (conversation.messages.at(-1 - random.int(5)) ?? null) : null,
    sentAt,
    touchConversation: touch,
  });
}

/** A few chats are busy, most are quiet. */
function chat(connection: Connection, random: Random): Conversation {
  const all = connection.conversations;
  const share = random.next() ** 3;
  // Groups stand last in the list and are the busiest.
  return all[all.length - 1 - Math.floor(share * all.length)]!;
}

/** A recent message for which `fits` holds, or nothing after a few tries. */
function recent(connection: Connection, random: Random, fits: (message: Message) => boolean): Message | null {
  const { messages } = connection;
  for (let tries = 0; tries < 8 && messages.length > 0; tries++) {
    const reach = Math.min(messages.length, random.chance(0.1) ? messages.length : 200);
    const message = messages[messages.length - 1 - random.int(reach)]!;
    if (message.deletedAt === 0 && connection.served(message) && fits(message)) return message;
  }
  return null;
}

function receipt(connection: Connection, random: Random): boolean {
  const message = recent(connection, random, ({ status }) => status === 'sent' || status === 'delivered');
  if (!message) return false;
  const next: Status = message.status === 'sent' && random.chance(0.7) ? 'delivered' : 'read';
  connection.setStatus(message, next);
  return true;
}

function reaction(connection: Connection, random: Random): boolean {
  const message = recent(connection, random, () => true);
  if (!message) return false;
  const members = message.conversation.members;
  const person = members.length > 0 ? random.pick(members).person : null;
  connection.react(message, person, random.chance(0.1) ? '' : emoji(random.bits()));
  return true;
}

function edit(connection: Connection, random: Random): boolean {
  const message = recent(connection, random, ({ contentType }) => contentType === 'text');
  if (message) connection.editMessage(message, 1 + random.int(0x3ffffffe));
  return message !== null;
}

function deletion(connection: Connection, random: Random): boolean {
  const message = recent(connection, random, () => true);
  if (message) connection.deleteMessage(message);
  return message !== null;
}

function people(connection: Connection, random: Random): boolean {
  if (connection.people.length === 0) return false;
  const person = random.pick(connection.people);
  const draw = random.int(10);
  if (draw < 3) stranger(connection, random);
  else if (draw < 7 && !person.phoneKnown) connection.resolvePhone(person);
  else connection.rename(person);
  return true;
}

/** Somebody new, known by phone number or by privacy id only. */
function stranger(connection: Connection, random: Random): Person {
  const phoneKnown = random.chance(0.6);
  return connection.addPerson({ saved: false, phoneKnown, lidKnown: !phoneKnown || random.chance(0.5) });
}

/** The first chat of an account that has none. */
function begin(connection: Connection, random: Random): void {
  const person = connection.people.find(({ hasChat }) => !hasChat);
  if (person) connection.addDirect(person);
  else stranger(connection, random);
}

function chats(connection: Connection, random: Random): boolean {
  if (connection.conversations.length === 0 || connection.people.length === 0) return false;
  const conversation = chat(connection, random);
  const person = random.pick(connection.people);
  const draw = random.int(10);
  if (draw < 1) connection.addGroup(groupName(random.bits()), [person]);
  else if (draw < 3 && !person.hasChat) connection.addDirect(person);
  else if (draw < 4) connection.setArchived(conversation, !conversation.archived);
  else if (conversation.direct) return false;
  else if (draw < 5) connection.setSubject(conversation, groupName(random.bits()));
  else membership(connection, conversation, person, random);
  return true;
}

function membership(connection: Connection, group: Conversation, person: Person, random: Random): void {
  const member = group.members.find((one) => one.person === person);
  if (!member) connection.setMember(group, person, 'member');
  else if (random.chance(0.5)) connection.setMember(group, person, null);
  else connection.setMember(group, person, member.role === 'admin' ? 'member' : 'admin');
}
