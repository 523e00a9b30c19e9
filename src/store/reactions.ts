import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { MAX_JID_BYTES } from './jids.ts';
import { isOf } from './places.ts';

/** SQL, to be joined laterally: the reactions in `messages.reactions`, as `reactor_jid, emoji`. The upstream leaves the
 * shape open; this is what is understood of it: an object by who reacted, with `{"emoji": "👍", …}` or `"👍"`. An empty
 * emoji is a reaction that was taken back. Whatever else is there stays in the `jsonb` alone. */
function reactionsIn(column: string): string {
  return `select r.key as reactor_jid, o.emoji
        from jsonb_each(case when jsonb_typeof(${column}) = 'object' then ${column} end) r
        cross join lateral (
          select case jsonb_typeof(r.value) when 'string' then r.value #>> '{}'
            when 'object' then case jsonb_typeof(r.value -> 'emoji') when 'string' then r.value ->> 'emoji' end
          end as emoji
        ) o
        where r.key ~ '.@.' and octet_length(r.key) <= ${MAX_JID_BYTES} and octet_length(o.emoji) between 1 and 64`;
}

/** For `judged`: what the stored message has. */
export const STORED_REACTIONS = 'e.reactions as old_reactions';

/** Common table expressions of the messages' upsert that keep `message_reactions` at what the `jsonb` says. A reaction
 * that stays the same keeps its `since`. */
export function reactionWrites(connectionId: ConnectionId, numbering: number): RawBuilder<unknown> {
  const table = sql.table('message_reactions');
  return sql`,
    reacted as materialized (
      select j.message_id, f.reactions, j.old_reactions from judged j
      -- a whole record that completes a newer, partial one takes nothing away
      cross join lateral (select case when (${numbering}::integer, j.seq) < (j.old_numbering, j.old_seq)
        then coalesce(j.old_reactions, j.reactions) else j.reactions end as reactions) f
      where j.outcome in ('inserted', 'updated', 'amended') and f.reactions is distinct from j.old_reactions
        and (f.reactions <> '{}' or j.old_reactions is not null)
    ),
    reactions_now as materialized (
      select m.message_id, r.* from reacted m cross join lateral (${sql.raw(reactionsIn('m.reactions'))}) r
    ),
    reactions_gone as (
      -- by place: a join would read all that the connection has, where the planner knows no better
      delete from ${table} t where ${isOf('t', connectionId)} and t.ctid = any(array(
        select e.place from reacted m cross join lateral (
          select s.ctid as place, s.reactor_jid from ${table} s
          where s.connection_id = (select ${connectionId}::text) and s.message_id = m.message_id offset 0
        ) e
        where m.old_reactions is not null and not exists (
          select from (${sql.raw(reactionsIn('m.reactions'))}) n where n.reactor_jid = e.reactor_jid)
      ))
      returning t.message_id, t.reactor_jid
    ),
    reactions_new as materialized (
      select n.*, e.reactor_jid is not null as was_there
      from reactions_now n left join lateral (
        select * from ${table} s where s.connection_id = (select ${connectionId}::text)
          and s.message_id = n.message_id and s.reactor_jid = n.reactor_jid limit 1
      ) e on true
      where e.emoji is distinct from n.emoji
    ),
    reactions_there as (
      insert into ${table} as t (connection_id, message_id, reactor_jid, emoji)
      select ${connectionId}, n.message_id, n.reactor_jid, n.emoji from reactions_new n
      on conflict (connection_id, message_id, reactor_jid) do update set emoji = excluded.emoji, since = now()
    )`;
}

/** Changes of reactions, for the feed; a record is its message and who reacted. */
export const REACTION_CHANGES = sql`
      select 'reaction' as kind, message_id || ' ' || reactor_jid as record_id,
        case when was_there then 'updated' else 'inserted' end as op,
        case when was_there then array['emoji'] end as changed_fields, 0::bigint as version
      from reactions_new
      union all
      select 'reaction', message_id || ' ' || reactor_jid, 'deleted', null, 0 from reactions_gone`;
