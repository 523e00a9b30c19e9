import { type RawBuilder, sql } from 'kysely';
import { type Entity, MESSAGE } from '../entities.ts';
import type { ConnectionId } from '../model.ts';
import { agoByBoth } from './clock.ts';
import type { Db } from './database.ts';

/*
 * The change feed. Numbers are given under the lock of the connection's state row, which every writer holds until its
 * commit: so they have no gaps, and their order is the order of the commits.
 */

/**
 * For `judged`: whether the row would be inserted, updated or deleted, and which columns differ. A whole message that
 * completes an older, partial one changes only what the row lacks (see `upsert`).
 * @param incoming the expression of a column's new value.
 */
export function changeColumns(
  { key, version, ...entity }: Entity,
  content: readonly string[],
  incoming: (column: string) => string,
  membership: string | undefined,
): string {
  const isMessage = entity.table === MESSAGE.table;
  const differs = (column: string) => {
    const plain = `${incoming(column)} is distinct from e.${column}`;
    if (!isMessage) return plain;
    const completed =
      column === 'extra'
        ? 'coalesce(i.extra || e.extra, e.extra, i.extra) is distinct from e.extra'
        : `e.${column} is null and ${incoming(column)} is not null`;
    return `case when (i.numbering, i.${version}) < (e.numbering, e.${version}) then ${completed} else ${plain} end`;
  };
  const fields = content.map((column) => `case when ${differs(column)} then '${column}' end`);
  if (membership !== undefined) fields.push(`case when ${membership} then 'participants' end`);
  const deleted = isMessage
    ? `when e.deleted_at is null and ${incoming('deleted_at')} is not null then 'deleted'`
    : '';
  return `case when e.${key} is null then 'inserted' ${deleted} else 'updated' end as change_op,
    case when e.${key} is not null then array_remove(array[${fields.join(', ')}]::text[], null) end as changed_fields`;
}

/** Changes of the judged rows of a kind, for {@link changeWrite}. A row of which only the version is new is none. */
export function recordChanges({ kind, key, version }: Entity): RawBuilder<unknown> {
  return sql.raw(`
      select '${kind}' as kind, j.${key} as record_id, j.change_op as op, j.changed_fields, j.${version} as version
      from judged j
      where j.outcome in ('inserted', 'updated', 'amended')
        and (j.changed_fields is null or j.changed_fields <> '{}')`);
}

/**
 * Common table expressions that number changes and write them.
 * @param sources selects of kind, record_id, op, changed_fields and version, one for each kind that the statement
 * writes; they are numbered in this order, and among themselves by version.
 */
export function changeWrite(
  connectionId: ConnectionId,
  sources: readonly RawBuilder<unknown>[],
): RawBuilder<unknown> {
  const parts = sources.map((source, at) => sql`select ${sql.lit(at)} as part, s.* from (${source}) s`);
  return sql`,
    told as materialized (
      select t.*, row_number() over (order by t.part, t.version, t.record_id) as place
      from (${sql.join(parts, sql` union all `)}) t
    ),
    numbered as (
      update ${sql.table('sync_state')} s
      -- A state row that somebody deleted begins anew, and the numbers that were given stay given.
      set last_change_no = n.count + greatest(s.last_change_no,
        (select max(c.change_no) from ${sql.table('changes')} c where c.connection_id = ${connectionId}))
      from (select count(*) as count from told) n
      where s.connection_id = ${connectionId} and n.count > 0
      returning s.last_change_no - n.count as base
    ),
    noted as (
      insert into ${sql.table('changes')} (connection_id, change_no, kind, record_id, op, changed_fields)
      select ${connectionId}, c.base + t.place, t.kind, t.record_id, t.op, t.changed_fields
      from told t cross join numbered c
    )`;
}

/**
 * The value of `last_change_no` where rows were written that nobody was told of, since CHANGES is off: a number without
 * a row. Whoever reads past it later is told that changes are missing. A feed that was never read or written has none.
 */
export function numberAfter(untold: boolean): RawBuilder<unknown> {
  return untold
    ? sql`last_change_no + case when last_change_no > 0
        or exists (select from ${sql.table('change_consumers')}) then 1 else 0 end`
    : sql`last_change_no`;
}

/** Connections of which changes can be pruned: every consumer has them, or they are over `retention` milliseconds old. */
export async function prunableConnections(db: Db, retention: number): Promise<ConnectionId[]> {
  const { rows } = await sql<{ connection_id: string }>`
    select s.connection_id from ${sql.table('sync_state')} s
    cross join lateral (
      select c.change_no, c.at from ${sql.table('changes')} c
      where c.connection_id = s.connection_id order by c.change_no limit 1
    ) c
    where s.last_change_no > 0
      and (c.change_no <= ${acknowledged(sql`s.connection_id`)} or c.at < ${agoByBoth(retention)})
    order by 1`.execute(db);
  return rows.map((row) => row.connection_id);
}

/**
 * Deletes the oldest changes of a connection that can be pruned, at most `most`: always the first ones, so that what is
 * left has no holes.
 * @returns how many.
 */
export async function pruneChanges(
  db: Db,
  connectionId: ConnectionId,
  retention: number,
  most: number,
): Promise<number> {
  const { rows } = await sql<{ gone: number }>`
    with edge as (
      select ${acknowledged(sql`${connectionId}::text`)} as acknowledged, ${agoByBoth(retention)} as expiry
    ), oldest as (
      select c.change_no, c.change_no > e.acknowledged and c.at >= e.expiry as kept
      from ${sql.table('changes')} c cross join edge e
      where c.connection_id = ${connectionId} order by c.change_no limit ${most}
    ), bound as (
      select coalesce(min(change_no) filter (where kept), max(change_no) + 1) as change_no from oldest
    ), gone as (
      delete from ${sql.table('changes')} c using bound b
      where c.connection_id = ${connectionId} and c.change_no < b.change_no
      returning 1
    )
    select count(*)::integer as gone from gone`.execute(db);
  return rows[0]!.gone;
}

/** Up to which number every consumer has the changes of a connection; 0 where there is no consumer. */
function acknowledged(connectionId: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`coalesce((select min(coalesce(p.change_no, 0)) from ${sql.table('change_consumers')} k
    left join ${sql.table('change_positions')} p on p.consumer = k.consumer and p.connection_id = ${connectionId}), 0)`;
}
