import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import { accountOf, hasDevice, isPersonal, phoneOf } from './jids.ts';
import { isOf } from './places.ts';

/*
 * How many messages there are by conversation (`conversation_counts`), in the page's transaction: a list of 50 chats or
 * people cannot count theirs among millions while somebody waits. By conversation and not by person, so that what is
 * learned late of a JID moves its chats along. No column of an index changes, so that an update costs one tuple.
 */

/** SQL: whose message it is beside ours: of one that came, the sender's JID; of one that we sent, the chat's. An index
 * on `messages` has this expression too. */
export function otherJid(m: string, prefix = ''): string {
  const [fromMe, direction, chat, sender] = ['is_from_me', 'direction', 'chat_jid', 'sender_jid'].map(
    (column) => `${m}${prefix}${column}`,
  );
  return `case when coalesce(${fromMe}, ${direction} = 'outgoing') then ${chat} else coalesce(${sender}, ${chat}) end`;
}

const COUNTED = ['conversation_id', 'chat_jid', 'sender_jid', 'is_from_me', 'direction', 'sent_at'];

/** For `judged`, beside what `revisions.ts` takes: what the stored message counts under. */
export const STORED_COUNTED = ['chat_jid', 'sender_jid', 'is_from_me', 'direction']
  .map((column) => `e.${column} as old_${column}`)
  .join(', ');

/** Common table expressions of the messages' upsert. A message that counts under something else now is taken from
 * where it counted; the first and the last time only ever move apart. A JID that nobody else told of is put into `jids`. */
export function messageCounts(connectionId: ConnectionId, numbering: number): RawBuilder<unknown> {
  const raw = sql.raw;
  const table = sql.table('conversation_counts');
  // What a whole record that completes a newer, partial one leaves as it is: see `assignments` of the upsert.
  const final = (column: string) => `case when b.older then coalesce(j.old_${column}, j.${column})
          else j.${column} end as ${column}`;
  return sql`,
    -- What counts under something else now.
    recounted as materialized (
      select c.*, ${raw(COUNTED.map((c) => `j.old_${c}`).join(', '))}
      from judged j
      cross join lateral (
        select coalesce((${numbering}::integer, j.seq) < (j.old_numbering, j.old_seq), false) as older
      ) b
      cross join lateral (select ${raw(COUNTED.map(final).join(', '))}) c
      where j.outcome in ('updated', 'amended')
        and (${raw(COUNTED.map((c) => `c.${c}`).join(', '))})
          is distinct from (${raw(COUNTED.map((c) => `j.old_${c}`).join(', '))})
    ),
    counted as materialized (
      select j.conversation_id, ${raw(otherJid('j.'))} as jid,
        coalesce(j.is_from_me, j.direction = 'outgoing', false) as from_me, j.sent_at, 1 as n
      from judged j where j.outcome = 'inserted'
      union all
      select c.conversation_id, ${raw(otherJid('c.'))},
        coalesce(c.is_from_me, c.direction = 'outgoing', false), c.sent_at, 1
      from recounted c
      union all
      select c.old_conversation_id, ${raw(otherJid('c.', 'old_'))},
        coalesce(c.old_is_from_me, c.old_direction = 'outgoing', false), null, -1
      from recounted c
    ),
    jids_heard_of as (
      insert into ${sql.table('jids')} (connection_id, jid, person_id, phone_e164)
      select ${connectionId}, c.jid, a.person_id, coalesce(a.phone_e164, ${raw(phoneOf('c.jid'))})
      from (
        -- looked up once each, not message by message; what a JID is like is asked only of those that are new
        select c.jid from (select distinct jid from counted where jid is not null offset 0) c
        left join lateral (
          select * from ${sql.table('jids')} s
          where s.connection_id = (select ${connectionId}::text) and s.jid = c.jid limit 1
        ) e on true
        where e.jid is null offset 0
      ) c
      -- a device is whose account it is of
      left join lateral (
        select s.person_id, s.phone_e164 from ${sql.table('jids')} s
        where ${raw(hasDevice('c.jid'))}
          and s.connection_id = (select ${connectionId}::text) and s.jid = ${raw(accountOf('c.jid'))} limit 1
      ) a on true
      where ${raw(isPersonal('c.jid'))}
    ),
    -- An update of its own: an upsert would lock each row first, and note that in the log.
    counts as materialized (
      select c.*, e.place
      from (
        select conversation_id, coalesce(sum(n) filter (where not from_me), 0) as messages_in,
          coalesce(sum(n) filter (where from_me), 0) as messages_out,
          min(sent_at) as first_message_at, max(sent_at) as last_message_at
        from counted where conversation_id is not null group by conversation_id
      ) c
      left join lateral (
        select s.ctid as place from ${table} s
        where s.connection_id = (select ${connectionId}::text) and s.conversation_id = c.conversation_id limit 1
      ) e on true
    ),
    counted_before as (
      update ${table} t set
        messages_in = t.messages_in + c.messages_in, messages_out = t.messages_out + c.messages_out,
        first_message_at = least(t.first_message_at, c.first_message_at),
        last_message_at = greatest(t.last_message_at, c.last_message_at)
      from counts c where t.ctid = c.place and ${isOf('t', connectionId)}
    ),
    counted_first as (
      insert into ${table} (connection_id, conversation_id,
        messages_in, messages_out, first_message_at, last_message_at)
      select ${connectionId}, conversation_id, messages_in, messages_out, first_message_at, last_message_at
      from counts where place is null
    )`;
}
