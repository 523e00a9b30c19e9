/**
 * The words of replication, shared by every layer. This file imports nothing.
 */

/** Identifies one paired WhatsApp account at the upstream. */
export type ConnectionId = string;

/** Whether a text can be one: it is sent as a header and stored as a key. */
export function isConnectionId(text: string): boolean {
  return /^[\x20-\x7e]{1,1024}$/.test(text);
}

/** The upstream's position in a connection's stream of changes: an int64, so never a JavaScript number. */
export type Cursor = bigint;

/** The three arrays of a page. */
export const KINDS = ['conversation', 'contact', 'message'] as const;
export type Kind = (typeof KINDS)[number];

/** What becomes of a record that can be stored. `amended`: other content at an equal version (R2). */
export const OUTCOMES = ['inserted', 'updated', 'amended', 'unchanged', 'stale'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** How many records of a kind met each outcome. */
export type Tally = Record<Outcome, number>;

export function emptyTally(): Tally {
  return { inserted: 0, updated: 0, amended: 0, unchanged: 0, stale: 0 };
}

/** Adds the counts of `more` to `tally`. */
export function addTally(tally: Tally, more: Tally): void {
  for (const outcome of OUTCOMES) tally[outcome] += more[outcome];
}

/** A value as it goes into a JSON parameter: text, boolean, null, or a nested JSON tree. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A record that passed the checks, keyed by column name; what is absent is null (R7). */
export type Row = Record<string, unknown>;

/** What the quarantine keeps of a record's id, in bytes (R9). */
export const MAX_RECORD_ID_BYTES = 200;

/** A record that cannot be stored: the JSON as it came, and why (R9). */
export interface Reject {
  readonly kind: Kind | 'participant';
  /** The record's own id where it has a readable one, cut to 200 bytes. */
  readonly recordId: string | null;
  /** Of a participant: the conversation that it came in. */
  readonly conversationId?: string;
  /** The record's own version where it has a readable one. */
  readonly version?: string;
  /** The record's bytes exactly as the upstream sent them. */
  readonly json: Buffer;
  /** A stable code, such as `id_missing` or a SQLSTATE. */
  readonly code: string;
  /** For a person; holds no value of the record (R18). */
  readonly reason: string;
}

/** The connection of a key that lists none: addressed without the header (R21). */
export const UNNAMED_CONNECTION: ConnectionId = 'default';

/** Where attachments are kept (MEDIA_STORE). A prefix has no slash at its ends; it may be empty. */
export type MediaStoreUrl =
  | { readonly kind: 'file'; readonly folder: string }
  | { readonly kind: 's3'; readonly bucket: string; readonly prefix: string };
