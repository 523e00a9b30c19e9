import { type Kysely, sql } from 'kysely';

/**
 * A participant who cannot be stored is put aside once for each conversation: as JSON they are often the same in all of
 * them, and one entry would tell of the last alone.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    drop index quarantine_open;
    create unique index quarantine_open on quarantine
      (connection_id, kind, record_sha256, (coalesce(conversation_id, ''))) where resolved_at is null;
  `.execute(db);
}
