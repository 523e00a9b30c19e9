import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';

/*
 * Who was in a group from when to when, as it was seen here: the upstream tells only who is in it now. Common table
 * expressions of the conversations' upsert, on those of `participants.ts`. A direct chat has no such history.
 */

/** Closes the intervals of those who are gone, and opens one for each who came. */
export function membershipIntervals(connectionId: ConnectionId): RawBuilder<unknown> {
  const table = sql.table('conversation_memberships');
  const connection = sql`(select ${connectionId}::text)`;
  return sql`,
    intervals_closed as (
      update ${table} t set left_at = now()
      from judged j join stored_members s on s.conversation_id = j.conversation_id
      where j.outcome in ('inserted', 'updated', 'amended')
        and not exists (select from members m
          where m.conversation_id = s.conversation_id and m.participant_jid = s.participant_jid)
        and t.connection_id = ${connection} and t.conversation_id = s.conversation_id
        and t.participant_jid = s.participant_jid and t.left_at is null
    ),
    intervals_opened as (
      insert into ${table} as t (connection_id, conversation_id, participant_jid)
      select ${connectionId}, m.conversation_id, m.participant_jid
      from judged j join members m on m.conversation_id = j.conversation_id
      left join lateral (
        -- by the key's index, member by member: see the upsert
        select * from ${table} s where s.connection_id = ${connection} and s.conversation_id = m.conversation_id
          and s.participant_jid = m.participant_jid and s.left_at is null limit 1
      ) o on true
      where j.outcome in ('inserted', 'updated', 'amended') and j.kind is distinct from 'direct'
        and j.conversation_id in (select conversation_id from membership_diff) and o.participant_jid is null
      -- left and back again within one page: as if never gone
      on conflict (connection_id, conversation_id, participant_jid, joined_at) do update set left_at = null
    )`;
}
