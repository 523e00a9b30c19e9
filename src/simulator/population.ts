/** Fills a connection from a seed: people, chats, and a month of messages, in the order in which they happened. */
import type { Connection } from './connection.ts';
import { groupName } from './people.ts';
import { emoji } from './phrases.ts';
import { mix, Random } from './random.ts';
import type { Conversation, Message, Person } from './records.ts';
import { inventMessage } from './traffic.ts';

export interface PopulationOptions {
  readonly messages: number;
  /** How far back the oldest message lies, in days. Beyond 30 the upstream serves it no more. */
  readonly historyDays: number;
  /** The world's time at the end of it, milliseconds since the epoch. */
  readonly now: number;
}

/** Takes about 2 µs a message. */
export function populate(connection: Connection, options: PopulationOptions): void {
  const random = new Random(mix(connection.salt, 11));
  const people = Math.max(3, Math.min(20_000, Math.ceil(options.messages / 25)));
  for (let i = 0; i < people; i++) connection.addPerson(traits(random));
  for (const person of connection.people) if (random.chance(0.8)) connection.addDirect(person);
  const groups = Math.max(1, Math.ceil(people / 12));
  for (let i = 0; i < groups; i++) connection.addGroup(groupName(random.bits()), members(connection, random));
  const span = options.historyDays * 86_400_000;
  for (let i = 0; i < options.messages; i++) {
    // One minute before now at the latest, so that what traffic adds is newer.
    const sentAt = options.now - 60_000 - span + Math.floor(((i + random.next()) / options.messages) * span);
    const message = inventMessage(connection, random, sentAt, false);
    settle(connection, message, random);
  }
  // Conversations come again after their messages, as the upstream would have it; some did not change.
  for (const conversation of connection.conversations) refresh(connection, conversation, random);
}

function traits(random: Random): { saved: boolean; phoneKnown: boolean; lidKnown: boolean } {
  const phoneKnown = random.chance(0.75);
  return { saved: phoneKnown && random.chance(0.6), phoneKnown, lidKnown: !phoneKnown || random.chance(0.5) };
}

function members(connection: Connection, random: Random): Person[] {
  const chosen = new Set<Person>();
  const size = 2 + random.int(Math.min(30, connection.people.length));
  for (let i = 0; i < size; i++) chosen.add(random.pick(connection.people));
  return [...chosen];
}

/** What became of a message since: receipts, a few edits, deletions and reactions, each a change of its own. */
function settle(connection: Connection, message: Message, random: Random): void {
  if (!message.sender) {
    // Straight into its last state: the receipts in between were long ago.
    message.status = random.chance(0.8) ? 'read' : random.chance(0.7) ? 'delivered' : 'sent';
  }
  if (random.chance(0.06)) {
    const person = message.conversation.direct ?? random.pick(message.conversation.members).person;
    connection.react(message, person, emoji(random.bits()));
  }
  if (random.chance(0.02)) connection.editMessage(message, 1 + random.int(0x3ffffffe));
  if (random.chance(0.01)) connection.deleteMessage(message);
}

function refresh(connection: Connection, conversation: Conversation, random: Random): void {
  const newest = conversation.messages.at(-1);
  if (!newest || random.chance(0.3)) return;
  conversation.lastMessageAt = newest.sentAt;
  connection.setArchived(conversation, random.chance(0.1));
}
