import type { ColumnType, Generated } from 'kysely';
import type { ErasureReturnsTable, ErasuresTable, MediaTable, SuppressionsTable } from './schema-beside.ts';
import type {
  ChangeConsumersTable,
  ChangePositionsTable,
  ChangesTable,
  ConversationCountsTable,
  ConversationMembershipsTable,
  CrmLinksTable,
  JidsTable,
  MessageReactionsTable,
} from './schema-crm.ts';

/** A timestamptz: read as a Date (milliseconds), written as text so that microseconds survive. */
export type Timestamp = ColumnType<Date, string | undefined, string>;
export type NullableTimestamp = ColumnType<Date | null, string | null | undefined, string | null>;
/** An int64: decimal digits, since a JavaScript number does not hold it. */
export type Int64 = ColumnType<string, string | undefined, string>;

export interface ConnectionsTable {
  connection_id: string;
  jid: string | null;
  paired: boolean | null;
  connected: boolean | null;
  discovered_at: Timestamp;
  removed_at: NullableTimestamp;
}

export interface SyncStateTable {
  connection_id: string;
  epoch: Generated<number>;
  numbering: Generated<number>;
  cursor: Int64;
  caught_up_at: NullableTimestamp;
  last_polled_at: NullableTimestamp;
  last_changed_at: NullableTimestamp;
  last_error: string | null;
  last_error_kind: string | null;
  consecutive_failures: Generated<number>;
  next_poll_at: NullableTimestamp;
  lease_owner: string | null;
  lease_term: Int64;
  lease_expires_at: NullableTimestamp;
  has_more: Generated<boolean>;
  epoch_started_at: Timestamp;
  epoch_reason: Generated<string>;
  last_reset_at: NullableTimestamp;
  stored_conversations: Int64;
  stored_contacts: Int64;
  stored_messages: Int64;
  beside_conversations: Int64;
  beside_contacts: Int64;
  beside_messages: Int64;
  window_alert: string | null;
  last_change_no: Int64;
  suppressed_by: string | null;
}

export interface WorkersTable {
  worker_id: string;
  started_at: Timestamp;
  heartbeat_at: Timestamp;
  version: string | null;
  host: string | null;
}

export interface SyncPagesTable {
  connection_id: string;
  page_id: Int64;
  epoch: number;
  numbering: number;
  cursor_from: string;
  cursor_to: string;
  has_more: boolean;
  conversations: number;
  contacts: number;
  messages: number;
  quarantined: number;
  body_sha256: string | null;
  worker: string | null;
  applied_at: Timestamp;
  pages: Generated<number>;
}

export interface VerificationsTable {
  connection_id: string;
  verification_id: Int64;
  cause: string;
  state: string;
  repair: boolean;
  since: NullableTimestamp;
  started_at: Timestamp;
  updated_at: Timestamp;
  finished_at: NullableTimestamp;
  position: unknown;
  requests: Int64;
  counts: unknown;
  checked: Int64;
  drift: Int64;
  mended: Int64;
  remaining: Int64;
  not_served: Int64;
  ledger_problems: number;
  error_kind: string | null;
  error: string | null;
}

export interface GapsTable {
  connection_id: string;
  gap_id: Int64;
  gap_from: Timestamp;
  gap_to: Timestamp;
  reason: string;
  found_by: string;
  recorded_at: Timestamp;
  alerted_at: NullableTimestamp;
  acknowledged_at: NullableTimestamp;
  note: string | null;
}

export interface UpkeepTable {
  connection_id: string;
  job: string;
  since: Timestamp;
  done_at: NullableTimestamp;
  error: string | null;
}

export interface QuarantineTable {
  quarantine_id: Int64;
  connection_id: string;
  kind: string;
  record_id: string | null;
  conversation_id: string | null;
  record_json: string;
  record_bytes: Buffer | null;
  record_sha256: string;
  error_code: string | null;
  error: string | null;
  version: string;
  numbering: number;
  cursor_from: string;
  cursor_to: string;
  first_seen_at: Timestamp;
  last_seen_at: Timestamp;
  attempts: Generated<number>;
  resolved_at: NullableTimestamp;
  resolution: string | null;
}

/** What every table of records has beside the upstream's fields, which the SQL takes from `entities.ts`. */
export interface RecordTable {
  connection_id: string;
  numbering: number;
  extra: unknown;
  first_synced_at: Timestamp;
  synced_at: Timestamp;
}

export interface MigrationTable {
  name: string;
  timestamp: string;
}

export interface Database {
  connections: ConnectionsTable;
  sync_state: SyncStateTable;
  workers: WorkersTable;
  sync_pages: SyncPagesTable;
  quarantine: QuarantineTable;
  verifications: VerificationsTable;
  gaps: GapsTable;
  upkeep: UpkeepTable;
  messages: RecordTable & { message_id: string; seq: string };
  conversations: RecordTable & { conversation_id: string; seq: string };
  contacts: RecordTable & { person_id: string; version: string };
  conversation_participants: { connection_id: string; conversation_id: string; participant_jid: string };
  jids: JidsTable;
  conversation_counts: ConversationCountsTable;
  message_reactions: MessageReactionsTable;
  conversation_memberships: ConversationMembershipsTable;
  message_revisions: { connection_id: string; message_id: string; revision: number };
  changes: ChangesTable;
  change_consumers: ChangeConsumersTable;
  change_positions: ChangePositionsTable;
  erasures: ErasuresTable;
  suppressions: SuppressionsTable;
  erasure_returns: ErasureReturnsTable;
  crm_links: CrmLinksTable;
  media: MediaTable;
  kysely_migration: MigrationTable;
}

/** The tables that get the replica's schema put before their name; common table expressions must not be
 * called like one of them. */
export const TABLES: ReadonlySet<string> = new Set<keyof Database>([
  'connections',
  'sync_state',
  'workers',
  'sync_pages',
  'quarantine',
  'verifications',
  'gaps',
  'upkeep',
  'messages',
  'conversations',
  'contacts',
  'conversation_participants',
  'message_revisions',
  'jids',
  'conversation_counts',
  'message_reactions',
  'conversation_memberships',
  'changes',
  'change_consumers',
  'change_positions',
  'erasures',
  'suppressions',
  'erasure_returns',
  'crm_links',
  'media',
  'kysely_migration',
]);
