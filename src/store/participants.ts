import { type RawBuilder, sql } from 'kysely';
import { columnType, PARTICIPANT_FIELDS } from '../entities.ts';
import type { ConnectionId } from '../model.ts';

/*
 * The membership of conversations, as common table expressions of the conversations' upsert. An array that
 * came, empty too, replaces what is stored; one that did not leaves it as it is (R7).
 */

const FIELDS = [...Object.keys(PARTICIPANT_FIELDS), 'extra'];
const TYPES = Object.entries(PARTICIPANT_FIELDS).map(([name, type]) => `${name} ${columnType(type)}`);
const RECORD = ['participant_jid text', ...TYPES, 'extra jsonb'].join(', ');

function of(alias: string): string {
  return FIELDS.map((field) => `${alias}.${field}`).join(', ');
}

/** `membership_diff`: the conversations among `incoming` whose membership differs from what is stored. What came and what
 * is stored (`members`, `stored_members`) are those of conversations that tell their membership alone. */
export function membershipDiff(connectionId: ConnectionId): RawBuilder<unknown> {
  const table = sql.table('conversation_participants');
  return sql`,
    members as materialized (
      select i.conversation_id, p.*
      from incoming i cross join lateral jsonb_to_recordset(i.participants) as p (${sql.raw(RECORD)})
      where i.participants is not null
    ),
    stored_members as materialized (
      select p.*
      from incoming i cross join lateral (
        -- by the key's index, conversation by conversation: see the upsert
        select * from ${table} s
        where s.connection_id = (select ${connectionId}::text) and s.conversation_id = i.conversation_id offset 0
      ) p
      where i.participants is not null
    ),
    membership_diff as materialized (
      select distinct coalesce(m.conversation_id, s.conversation_id) as conversation_id
      from members m
      full join stored_members s on s.conversation_id = m.conversation_id and s.participant_jid = m.participant_jid
      where m.participant_jid is null or s.participant_jid is null
        or (${sql.raw(of('m'))}) is distinct from (${sql.raw(of('s'))})
    )`;
}

/** Changes of membership, for the feed; a record is its conversation and the participant. */
export const MEMBERSHIP_CHANGES = sql.raw(`
      select 'membership' as kind, j.conversation_id || ' ' || m.participant_jid as record_id,
        case when s.participant_jid is null then 'inserted' else 'updated' end as op,
        case when s.participant_jid is not null then array_remove(array[${FIELDS.map(
          (field) => `case when m.${field} is distinct from s.${field} then '${field}' end`,
        ).join(', ')}], null) end as changed_fields, j.seq as version
      from judged j
      join members m on m.conversation_id = j.conversation_id
      left join stored_members s on s.conversation_id = m.conversation_id and s.participant_jid = m.participant_jid
      where j.outcome in ('inserted', 'updated', 'amended')
        and (s.participant_jid is null or (${of('m')}) is distinct from (${of('s')}))
      union all
      select 'membership', j.conversation_id || ' ' || s.participant_jid, 'deleted', null, j.seq
      from judged j
      join stored_members s on s.conversation_id = j.conversation_id
      where j.outcome in ('inserted', 'updated', 'amended')
        and not exists (select from members m
          where m.conversation_id = s.conversation_id and m.participant_jid = s.participant_jid)`);

/** Brings the membership of every conversation that is written to what came. */
export function membershipWrites(connectionId: ConnectionId): RawBuilder<unknown> {
  const table = sql.table('conversation_participants');
  const columns = FIELDS.join(', ');
  const set = FIELDS.map((field) => `${field} = excluded.${field}`).join(', ');
  return sql`,
    left_members as (
      delete from ${table} p using judged j, stored_members s
      where j.outcome in ('inserted', 'updated', 'amended')
        and s.conversation_id = j.conversation_id
        and not exists (select from members m
          where m.conversation_id = s.conversation_id and m.participant_jid = s.participant_jid)
        and p.connection_id = (select ${connectionId}::text)
        and p.conversation_id = s.conversation_id and p.participant_jid = s.participant_jid
    ),
    present_members as (
      insert into ${table} as t (connection_id, conversation_id, participant_jid, ${sql.raw(columns)})
      select ${connectionId}, m.conversation_id, m.participant_jid, ${sql.raw(of('m'))}
      from members m join judged j on j.conversation_id = m.conversation_id
      where j.outcome in ('inserted', 'updated', 'amended')
        and j.conversation_id in (select conversation_id from membership_diff)
      on conflict (connection_id, conversation_id, participant_jid) do update set ${sql.raw(set)}
        where (${sql.raw(of('t'))}) is distinct from (${sql.raw(of('excluded'))})
    )`;
}
