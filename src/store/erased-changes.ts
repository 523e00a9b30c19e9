import { sql } from 'kysely';
import { memberIs, type Scope } from './belongings.ts';
import { numberAfter } from './changes.ts';
import type { Db } from './database.ts';
import { connectionsOf, idsOf, type Key, keySet } from './keys.ts';
import { jidOf } from './person.ts';

/*
 * The change feed where records are removed outside a page: consumers are told which, and nothing else of them. The
 * caller holds the lock of the state rows.
 */

/** A change that is told of, by the record's key. */
export interface Told extends Key {
  readonly kind: 'message' | 'conversation' | 'contact';
  readonly op: 'deleted' | 'updated';
  /** The column that differs, where the record is still there. */
  readonly field?: 'reactions' | 'extra' | 'reply_to_wa_id' | 'participants';
}

/** Tells of changes in this order. With `changes` off they are numbers without rows, as everywhere (CHANGES). */
export async function tell(db: Db, told: readonly Told[], changes: boolean): Promise<void> {
  if (told.length === 0) return;
  const connections = connectionsOf(told);
  if (!changes) {
    await sql`update ${sql.table('sync_state')} set last_change_no = ${numberAfter(true)}
      where connection_id = any(${connections})`.execute(db);
    return;
  }
  await sql`
    with told as materialized (
      select t.*, row_number() over (partition by t.connection_id order by t.place) as at
      from unnest(${connections}, ${told.map(({ kind }) => kind)}::text[], ${idsOf(told)},
        ${told.map(({ op }) => op)}::text[], ${told.map(({ field }) => field ?? null)}::text[])
        with ordinality as t (connection_id, kind, record_id, op, field, place)
    ), numbered as (
      update ${sql.table('sync_state')} s set last_change_no = n.count + greatest(s.last_change_no,
        (select max(c.change_no) from ${sql.table('changes')} c where c.connection_id = s.connection_id))
      from (select connection_id, count(*) as count from told group by connection_id) n
      where s.connection_id = n.connection_id
      returning s.connection_id, s.last_change_no - n.count as base
    )
    insert into ${sql.table('changes')} (connection_id, change_no, kind, record_id, op, changed_fields)
    select t.connection_id, n.base + t.at, t.kind, t.record_id, t.op, case when t.field is not null then array[t.field] end
    from told t join numbered n on n.connection_id = t.connection_id`.execute(db);
}

/** Whether anybody reads the feed. */
export async function hasConsumers(db: Db): Promise<boolean> {
  const { rows } = await sql`select from ${sql.table('change_consumers')} limit 1`.execute(db);
  return rows.length > 0;
}

/**
 * Takes the person's identifiers out of what was told before. Numbers must not be missing, so that the rows stay: a
 * reaction or a membership becomes a change of its message or conversation, and of a record whose id says whose it is
 * only that one was deleted; of what belongs to it, likewise.
 * @param named records whose ids say whose they are.
 */
export async function blankChanges(db: Db, scope: Scope, named: readonly Key[]): Promise<void> {
  const jid = sql.raw(jidOf(`split_part(c.record_id, ' ', -1)`));
  const rest = sql.raw(`left(c.record_id, -1 - length(split_part(c.record_id, ' ', -1)))`);
  await sql`
    update ${sql.table('changes')} c set
      kind = case c.kind when 'reaction' then 'message' else 'conversation' end,
      record_id = ${rest},
      op = 'updated', changed_fields = array[case c.kind when 'reaction' then 'reactions' else 'participants' end]
    where c.connection_id = any(${[...scope.connections]}::text[]) and c.kind in ('reaction', 'membership')
      and (${jid} = any(${[...scope.person.jids]}::text[])
        -- a member by an id alone
        or (c.kind = 'membership' and exists (select from ${sql.table('conversation_participants')} p
          where p.connection_id = c.connection_id and c.record_id = p.conversation_id || ' ' || p.participant_jid
            and ${memberIs('p', scope)})))`.execute(db);
  await sql`
    update ${sql.table('changes')} c set record_id = null, op = 'deleted', changed_fields = null,
      kind = case c.kind when 'reaction' then 'message' when 'membership' then 'conversation' else c.kind end
    where (c.connection_id, case when c.kind in ('reaction', 'membership') then ${rest} else c.record_id end)
      in ${keySet(named)}`.execute(db);
}
