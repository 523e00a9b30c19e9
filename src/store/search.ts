import { sql } from 'kysely';
import { sqlstate } from '../errors/errors.ts';
import type { Db } from './database.ts';

/** What is looked for; of what is not given, all. */
export interface MessageSearch {
  /** Words, "a phrase", -without, one or other, begin*. */
  readonly query: string;
  readonly phone?: string | undefined;
  /** The upstream's person. */
  readonly person?: string | undefined;
  /** A contact that is linked (`crm_links`). */
  readonly crmId?: string | undefined;
  readonly connection?: string | undefined;
  readonly since?: Date | undefined;
  readonly before?: Date | undefined;
  readonly max: number;
  /** Of words too: each blank-separated or "quoted" piece of the query may stand anywhere, and means itself. */
  readonly parts?: boolean | undefined;
}

/** A row of `search_messages`. */
export interface FoundMessage {
  readonly connection_id: string;
  readonly message_id: string;
  readonly conversation_id: string | null;
  readonly sent_at: Date | null;
  readonly is_from_me: boolean | null;
  readonly chat_title: string | null;
  readonly chat_kind: string | null;
  readonly sender_name: string | null;
  readonly sender_e164: string | null;
  readonly person_name: string | null;
  readonly person_e164: string | null;
  readonly person_key: string | null;
  readonly content_type: string | null;
  readonly body: string | null;
  readonly deleted_at: Date | null;
}

/** Messages with these words, or parts of words, the newest first. */
export async function searchMessages(db: Db, schema: string, wanted: MessageSearch): Promise<FoundMessage[]> {
  const { query, phone, person, crmId, connection, since, before, max, parts = false } = wanted;
  const time = (at: Date | undefined) => at?.toISOString() ?? null;
  const { rows } = await sql<FoundMessage>`
    select * from ${sql.id(schema)}.search_messages(${query}, phone => ${phone ?? null}, person => ${person ?? null},
      crm_id => ${crmId ?? null}, connection => ${connection ?? null}, since => ${time(since)}::timestamptz,
      before => ${time(before)}::timestamptz, max => ${max}, parts => ${parts})`.execute(db);
  return rows;
}

/**
 * Merges what is new into the indexes. Postgres keeps new rows in a list of up to gin_pending_list_limit (4 MB), so that
 * writing is quick; whoever searches reads all of it, which takes longer than the rest. Does nothing without the index,
 * or for a role that may not call the function: searches are slower then.
 */
export async function tendSearch(db: Db, schema: string): Promise<void> {
  try {
    await sql`select ${sql.id(schema)}.tend_search()`.execute(db);
  } catch (error) {
    if (sqlstate(error) !== MAY_NOT) throw error;
  }
}

/** SQLSTATE of a lack of privilege. */
const MAY_NOT = '42501';
