import type { Generated } from 'kysely';
import type { Int64, NullableTimestamp, Timestamp } from './schema.ts';

/* The tables of what is built beside the replication: see `schema.ts`. */

export interface ErasuresTable {
  /** Empty: all connections. */
  connection_id: string;
  erasure_id: Int64;
  erased_at: Timestamp;
  forever: Generated<boolean>;
  key_fingerprint: string;
  counts: unknown;
}

export interface SuppressionsTable {
  /** Empty: all connections. */
  connection_id: string;
  hash: Buffer;
  is_record: Generated<boolean>;
  erasure_id: string;
  erased_at: Timestamp;
  forever: Generated<boolean>;
}

export interface ErasureReturnsTable {
  connection_id: string;
  erasure_id: string;
  returned_at: Timestamp;
}

/** An attachment of a message: in the queue, or where it is. */
export interface MediaTable {
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
