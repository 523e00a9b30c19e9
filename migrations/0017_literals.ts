import { type Kysely, sql } from 'kysely';

/**
 * The search reads its own regular expressions as they are written, whatever a caller's session makes of a backslash in a
 * literal: with `standard_conforming_strings = off` it failed.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter function search_messages(text, text, text, text, text, timestamptz, timestamptz, integer, boolean)
    set standard_conforming_strings = on`.execute(db);
}
