import type { Int64, NullableTimestamp, Timestamp } from './schema.ts';

/* The tables of what a CRM builds on, the change feed among them: see `schema.ts`. */

export interface ChangesTable {
  connection_id: string;
  change_no: string;
  kind: string | null;
  record_id: string | null;
  op: string | null;
  changed_fields: string[] | null;
  at: Timestamp;
}

export interface ChangeConsumersTable {
  consumer: string;
  registered_at: Timestamp;
}

export interface ChangePositionsTable {
  connection_id: string;
  consumer: string;
  change_no: Int64;
  handed_to: Int64;
  leased_to: Int64;
  leased_until: NullableTimestamp;
  read_at: NullableTimestamp;
  acked_at: NullableTimestamp;
}

export interface JidsTable {
  connection_id: string;
  jid: string;
  person_id: string | null;
  phone_e164: string | null;
  first_seen_at: Timestamp;
  last_seen_at: Timestamp;
  last_message_at: NullableTimestamp;
}

export interface ConversationCountsTable {
  connection_id: string;
  conversation_id: string;
  messages_in: Int64;
  messages_out: Int64;
  first_message_at: NullableTimestamp;
  last_message_at: NullableTimestamp;
}

export interface MessageReactionsTable {
  connection_id: string;
  message_id: string;
  reactor_jid: string;
  emoji: string | null;
  since: Timestamp;
}

export interface ConversationMembershipsTable {
  connection_id: string;
  conversation_id: string;
  participant_jid: string;
  joined_at: Timestamp;
  left_at: NullableTimestamp;
}

export interface CrmLinksTable {
  crm_id: string;
  phone_e164: string;
  raw_phone: string | null;
  linked_at: Timestamp;
}
