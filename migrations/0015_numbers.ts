import { type Kysely, sql } from 'kysely';

/**
 * All JIDs of a person have its number. Of one whose number was learned by a page that also moved the time of its chat,
 * the chat's JID was left without, until the person was told of again.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Pages in flight are waited for, so that none leaves another so.
  await sql`lock table sync_state in exclusive mode`.execute(db);
  await sql`
    update jids j set phone_e164 = p.phone
    from (
      select connection_id, person_id, max(phone_e164) as phone from jids where person_id is not null
      group by connection_id, person_id
      having count(*) > count(phone_e164) and count(distinct phone_e164) = 1
    ) p
    where j.connection_id = p.connection_id and j.person_id = p.person_id and j.phone_e164 is null`.execute(
    db,
  );
}
