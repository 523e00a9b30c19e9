/**
 * Records as the upstream writes them: JSON text, built by hand because `seq` and some numbers inside are int64.
 * Field names are those of the vendor's public OpenAPI document; `sender_person_id` and the other fields that its
 * schemas lack are marked: its guides show that such fields occur.
 */
import { mediaFile } from './media.ts';
import { phrase } from './phrases.ts';
import { mix } from './random.ts';
import type { AnyRecord, Conversation, Message, Person, RawText } from './records.ts';
import { rfc3339, ZERO_TIME } from './times.ts';

/** Salts of the derived fractions, one per field, so that equal instants in two fields are written differently. */
export const SENT = 1;
const RECEIVED = 2;
const EDITED = 3;
const DELETED = 4;
const LAST_MESSAGE = 5;

const quote = JSON.stringify as (text: string) => string;

/** What of the connection shows in its records. */
export interface Wording {
  messageId(index: number): string;
  waMessageId(index: number): string;
}

/** The record as it stands in a page; for a raw one, possibly bytes. */
export function recordText(record: AnyRecord, seq: bigint, words: Wording): string | Buffer {
  if ('text' in record) return rawText(record.text, seq);
  switch (record.kind) {
    case 'message':
      return messageText(record, seq, words);
    case 'conversation':
      return conversationText(record, seq);
    case 'contact':
      return contactText(record);
  }
}

export function messageText(m: Message, seq: bigint, words: Wording): string {
  const c = m.conversation;
  const h = mix(m.index, 51);
  let out = `{"message_id":"${words.messageId(m.index)}","conversation_id":"${c.id}","chat_jid":"${c.chatJid}"`;
  out += `,"wa_message_id":"${words.waMessageId(m.index)}","sender_jid":"${m.senderJid}"`;
  if (m.senderName !== '') out += `,"sender_push_name":${quote(m.senderName)}`;
  // Not in the schema; the guides show it.
  if (m.sender && h % 4 !== 0) out += `,"sender_person_id":"${m.sender.id}"`;
  out += m.sender
    ? ',"direction":"incoming","is_from_me":false'
    : ',"direction":"outgoing","is_from_me":true';
  out += `,"content_type":"${m.contentType}"`;
  if (m.body !== 0) {
    const locale = (m.sender ?? c.direct)?.who.locale ?? 'en';
    out += `,"body":${quote(typeof m.body === 'string' ? m.body : phrase(m.body, locale))}`;
  }
  out += `,"status":"${m.status}"`;
  if (m.replyTo) out += `,"reply_to_wa_id":"${words.waMessageId(m.replyTo.index)}"`;
  if (m.reactions) out += `,"reactions":${reactionsText(m)}`;
  else if (h % 5 === 1) out += ',"reactions":{}';
  if (m.media > 0) out += `,"media":${mediaText(m)}`;
  out += `,"sent_at":"${rfc3339(m.sentAt, mix(m.index, SENT))}"`;
  out += timeField('received_at', m.receivedAt, m.index, RECEIVED);
  out += timeField('edited_at', m.editedAt, m.index, EDITED);
  out += timeField('deleted_at', m.deletedAt, m.index, DELETED);
  // Not in the schema, and beyond what a JavaScript number holds: a replica has to keep it exactly.
  if (h % 64 === 2) out += `,"server_stamp":${9_007_199_254_740_993n + BigInt(m.index)}`;
  return `${out},"seq":${seq}}`;
}

export function conversationText(c: Conversation, seq: bigint): string {
  let out = `{"conversation_id":"${c.id}","chat_jid":"${c.chatJid}","kind":"${c.direct ? 'direct' : 'group'}"`;
  if (c.subject !== null) out += `,"subject":${quote(c.subject)}`;
  if (c.direct) out += `,"direct_person_id":"${c.direct.id}"`;
  out += `,"is_archived":${c.archived}`;
  out += timeField('last_message_at', c.lastMessageAt, c.index, LAST_MESSAGE);
  out += ',"participants":[';
  for (let i = 0; i < c.members.length; i++) {
    const member = c.members[i]!;
    out += `${i > 0 ? ',' : ''}{"participant_jid":"${member.jid}"`;
    if (member.person) out += `,"person_id":"${member.person.id}"`;
    out += `,"role":"${member.role}"}`;
  }
  // Not in the schema.
  return `${out}],"muted":${mix(c.index, 61) % 7 === 0},"seq":${seq}}`;
}

/** A contact carries no seq on the wire (its schema has none). */
export function contactText(p: Person): string {
  const { who } = p;
  let out = `{"person_id":"${p.id}"`;
  if (p.displayName !== null) out += `,"display_name":${quote(p.displayName)}`;
  else if (p.saved) out += `,"display_name":${quote(`${who.first} ${who.last}`)}`;
  if (p.saved) {
    out += `,"first_name":${quote(who.first)},"last_name":${quote(who.last)}`;
    if (p.index % 3 === 0) out += `,"company":${quote(who.company)}`;
  }
  if (p.pushName !== '') out += `,"whatsapp_push_name":${quote(p.pushName)}`;
  if (p.phoneKnown) out += `,"phone_e164":"+${who.phone}","phone_jid":"${p.phoneJid}"`;
  if (p.lidKnown) out += `,"lid_jid":"${p.lidJid}"`;
  // Not in the schema.
  if (p.index % 5 === 0) out += `,"is_business":${p.index % 10 === 0}`;
  return `${out}}`;
}

export function rawText(text: RawText, seq: bigint): string | Buffer {
  return typeof text === 'function' ? text(seq) : text;
}

function timeField(name: string, seconds: number, index: number, field: number): string {
  if (seconds > 0) return `,"${name}":"${rfc3339(seconds, mix(index, field))}"`;
  const manner = mix(index, 70 + field) % 16;
  // Three ways of saying "not set", and the fourth, silence, is the commonest.
  if (manner < 3) return `,"${name}":"${ZERO_TIME}"`;
  return manner === 3 ? `,"${name}":""` : manner === 4 ? `,"${name}":null` : '';
}

/** Keyed by who reacted; the schema leaves the shape open. Nanoseconds do not fit a double. */
function reactionsText(m: Message): string {
  const parts = m.reactions!.map(
    ({ jid, emoji, at }) =>
      `"${jid}":{"emoji":${quote(emoji)},"timestamp_ns":${BigInt(at) * 1_000_000_000n + BigInt(mix(at, m.index) % 1e9)}}`,
  );
  return `{${parts.join(',')}}`;
}

function mediaText(m: Message): string {
  if (m.contentType === 'text') return '{}';
  const file = mediaFile(m.contentType, m.media);
  let out = `{"mime_type":"${file.mimeType}","file_size":${file.size},"file_sha256":"${file.sha256}"`;
  if (file.fileName !== null) out += `,"file_name":${quote(file.fileName)}`;
  if (m.contentType === 'image' || m.contentType === 'video') out += `,"width":${640 + m.media},"height":480`;
  if (m.contentType === 'audio' || m.contentType === 'video') out += `,"duration_seconds":${m.media}.5`;
  // In nanoseconds for some, so beyond 2^53.
  out += `,"media_key_timestamp":${m.sentAt}${m.media % 4 === 0 ? '000000001' : ''}`;
  return `${out},"ptt":${m.contentType === 'audio' && m.media % 2 === 0}}`;
}
