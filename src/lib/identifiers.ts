import { define, MAX_DEPTH } from './text.ts';

/*
 * What names a person: JIDs, numbers, ids; and where JSON of an open shape speaks of one.
 * Nesting beyond what `jsonb` is given is not looked into.
 */

const PHONE_SERVER = '@s.whatsapp.net';

/** The one form of what is written in several: a JID without its device, a number as its phone JID. Other ids are
 * themselves. */
export function identifier(value: string): string {
  const at = value.lastIndexOf('@');
  if (at > 0) {
    const user = value.slice(0, at).replace(/:\d+$/, '').toLowerCase();
    const server = value.slice(at).toLowerCase();
    return user + (server === '@c.us' ? PHONE_SERVER : server);
  }
  return value.startsWith('+') ? (phoneJid(value) ?? value) : value;
}

/** The phone JID of a number in E.164, the `+`, spaces and punctuation in it optional; undefined of anything else. */
export function phoneJid(number: string): string | undefined {
  const digits = number.replace(/[\s().+-]/g, '');
  return /^[1-9]\d{4,14}$/.test(digits) ? digits + PHONE_SERVER : undefined;
}

/** Whether a text in JSON of an open shape may name a person: a JID, a number, or an id under a key that says so. */
function mayName(text: string, key: string): boolean {
  if (text.length > 1024 || text === '') return false;
  return (text.indexOf('@') > 0 && !text.includes(' ')) || /^\+\d/.test(text) || /person/i.test(key);
}

/** The names that a text may be or be made of: WhatsApp's own ids of messages hold JIDs (`false_…@g.us_3EB0…_…@lid`). */
function namesOf(text: string, key: string): string[] {
  if (!mayName(text, key)) return [];
  const parts = text.split('_').filter((part) => part.indexOf('@') > 0);
  return parts.length > 0 && parts[0] !== text ? [text, ...parts] : [text];
}

/** Calls `found` for every text in a JSON value that may name a person. */
export function namesIn(value: unknown, found: (name: string) => void, key = '', depth = 0): void {
  if (depth > MAX_DEPTH) return;
  if (typeof value === 'string') {
    for (const name of namesOf(value, key)) found(name);
  } else if (Array.isArray(value)) {
    for (const element of value) namesIn(element, found, key, depth + 1);
  } else if (typeof value === 'object' && value !== null && !JSON.isRawJSON(value)) {
    for (const [name, member] of Object.entries(value)) {
      for (const one of namesOf(name, '')) found(one);
      namesIn(member, found, name, depth + 1);
    }
  }
}

/**
 * A JSON value without what speaks of a person: members under their name or with it as their value, and every object
 * within that has one of these. The value itself where there is nothing of the kind; null where it is the person itself.
 * @param isTheirs asked with what {@link namesIn} finds.
 */
export function withoutNames<T>(value: T, isTheirs: (name: string) => boolean): T {
  const left = without(value, isTheirs, '', 0);
  return (left === GONE ? null : left) as T;
}

const GONE = Symbol('gone');

function without(value: unknown, isTheirs: (name: string) => boolean, key: string, depth: number): unknown {
  if (typeof value === 'string') return namesOf(value, key).some(isTheirs) ? GONE : value;
  if (typeof value !== 'object' || value === null || JSON.isRawJSON(value) || depth > MAX_DEPTH) return value;
  if (Array.isArray(value)) {
    const left = value.map((element) => without(element, isTheirs, key, depth + 1));
    return left.every((element, at) => element === value[at]) ? value : left.filter((one) => one !== GONE);
  }
  let changed = false;
  const object: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(value)) {
    const left = namesOf(name, '').some(isTheirs) ? GONE : without(member, isTheirs, name, depth + 1);
    // What has a member that is the person is about the person.
    if (left === GONE && typeof member === 'string' && depth > 0) return GONE;
    if (left !== member) changed = true;
    if (left !== GONE) define(object, name, left);
  }
  return changed ? object : value;
}
