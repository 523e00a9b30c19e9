import type { ColumnType, Generated } from 'kysely';

/** A timestamptz: read as a Date (milliseconds), written as text so that microseconds survive. */
type Timestamp = ColumnType<Date, string | undefined, string>;
type NullableTimestamp = ColumnType<Date | null, string | null | undefined, string | null>;
/** An int64: decimal digits, since a JavaScript number does not hold it. */
type Int64 = ColumnType<string, string | undefined, string>;

interface ConnectionsTable {
  connection_id: string;
  jid: string | null;
  paired: boolean | null;
  connected: boolean | null;
  discovered_at: Timestamp;
  removed_at: NullableTimestamp;
}

interface SyncStateTable {
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

interface WorkersTable {
  worker_id: string;
  started_at: Timestamp;
  heartbeat_at: Timestamp;
  version: string | null;
  host: string | null;
}

/** An attachment of a message: in the queue, or where it is. */
interface MediaTable {
  connection_id: string;
  message_id: string;
  state: Generated<string>;
  mime_type: string | null;
  bytes: Int64 | null;
  sha256: string | null;
  location: string | null;
  attempts: Generated<number>;
  next_try_at: Timestamp;
  sent_at: Timestamp;
  claimed_by: string | null;
  claimed_until: NullableTimestamp;
  writing: string | null;
  error_kind: string | null;
  error: string | null;
  queued_at: Timestamp;
  stored_at: NullableTimestamp;
}

interface MigrationTable {
  name: string;
  timestamp: string;
}

/** The tables that Kysely builds queries of. */
interface Built {
  connections: ConnectionsTable;
  sync_state: SyncStateTable;
  workers: WorkersTable;
  media: MediaTable;
  kysely_migration: MigrationTable;
}

/** All tables, in the order in which a connection's new name is put into them. */
const NAMES = [
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
] as const;

/** What raw SQL alone asks for has no types here, since nothing would hold them to the columns: those are in
 * `migrations/schema.txt`. */
export type Database = Built & Record<Exclude<(typeof NAMES)[number], keyof Built>, object>;

/** The tables that get the replica's schema put before their name; common table expressions must not be
 * called like one of them. */
export const TABLES: ReadonlySet<string> = new Set<keyof Database>(NAMES);
