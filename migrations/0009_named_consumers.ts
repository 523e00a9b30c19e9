import { type Kysely, sql } from 'kysely';

/**
 * A consumer has a name: one that an empty variable has made would keep the feed from being pruned until its retention,
 * and two that both lost theirs would share it, and each miss half. Those that are there go on.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table change_consumers add constraint change_consumers_named check (consumer <> '') not valid`.execute(
    db,
  );
}
