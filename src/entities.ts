/**
 * The three kinds of record, field by field: the one place where a field of the upstream becomes a column.
 * The checks (`sync/normalise.ts`) and the SQL (`store/upsert.ts`) are both derived from it; a field that
 * is not named here lands in `extra` (R7). Field names are those of the upstream's sync answer.
 */
import type { Kind } from './model.ts';

/** How a field is checked and stored. `id`: text of at most 1,024 bytes, since it may be an index key (R9). */
export type FieldType = 'id' | 'text' | 'boolean' | 'time' | 'object';

export interface Entity {
  readonly kind: Kind;
  readonly table: 'messages' | 'conversations' | 'contacts';
  readonly array: 'messages' | 'conversations' | 'contacts';
  readonly key: 'message_id' | 'conversation_id' | 'person_id';
  /** The column that orders versions within a numbering (R2). */
  readonly version: 'seq' | 'version';
  readonly fields: Readonly<Record<string, FieldType>>;
}

export const MESSAGE: Entity = {
  kind: 'message',
  table: 'messages',
  array: 'messages',
  key: 'message_id',
  version: 'seq',
  fields: {
    conversation_id: 'id',
    chat_jid: 'id',
    wa_message_id: 'id',
    sender_jid: 'id',
    sender_push_name: 'text',
    direction: 'text',
    is_from_me: 'boolean',
    content_type: 'text',
    body: 'text',
    status: 'text',
    reply_to_wa_id: 'id',
    reactions: 'object',
    media: 'object',
    sent_at: 'time',
    received_at: 'time',
    edited_at: 'time',
    deleted_at: 'time',
  },
};

export const CONVERSATION: Entity = {
  kind: 'conversation',
  table: 'conversations',
  array: 'conversations',
  key: 'conversation_id',
  version: 'seq',
  fields: {
    chat_jid: 'id',
    kind: 'text',
    subject: 'text',
    direct_person_id: 'id',
    is_archived: 'boolean',
    last_message_at: 'time',
  },
};

export const CONTACT: Entity = {
  kind: 'contact',
  table: 'contacts',
  array: 'contacts',
  key: 'person_id',
  version: 'version',
  fields: {
    display_name: 'text',
    first_name: 'text',
    last_name: 'text',
    company: 'text',
    whatsapp_push_name: 'text',
    phone_e164: 'id',
    phone_jid: 'id',
    lid_jid: 'id',
  },
};

/** Participants of a conversation; their key is `participant_jid` within it. */
export const PARTICIPANT_FIELDS: Readonly<Record<string, FieldType>> = { person_id: 'id', role: 'text' };

/** In the order in which a page is written: what others point to comes first. */
export const ENTITIES: readonly Entity[] = [CONTACT, CONVERSATION, MESSAGE];

export function entityOf(kind: Kind): Entity {
  return kind === 'message' ? MESSAGE : kind === 'conversation' ? CONVERSATION : CONTACT;
}

/** The Postgres type of a column that holds such a field. */
export function columnType(type: FieldType): 'text' | 'boolean' | 'timestamptz' | 'jsonb' {
  switch (type) {
    case 'boolean':
      return 'boolean';
    case 'time':
      return 'timestamptz';
    case 'object':
      return 'jsonb';
    default:
      return 'text';
  }
}
