import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';
import type { Db } from './database.ts';

/** A row of the feed. Numbers are decimal digits. */
export interface Change {
  readonly connection_id: ConnectionId;
  readonly change_no: string;
  readonly kind: string;
  /** Null where it named a person who was erased since. */
  readonly record_id: string | null;
  readonly op: string;
  readonly changed_fields: readonly string[] | null;
  readonly at: Date;
}

/** By connection, the last change that somebody has. */
export type Positions = Map<ConnectionId, string>;

/** SQLSTATE of a read that comes too late: the changes that it wants are gone. */
export const TOO_LATE = 'WR001';

/** Where the feed ends now. */
export async function feedEnd(db: Db): Promise<Positions> {
  const rows = await db.selectFrom('sync_state').select(['connection_id', 'last_change_no']).execute();
  return new Map(rows.map((row) => [row.connection_id, row.last_change_no]));
}

/** What came after these positions, at most `most` of a connection; a connection without one is read from its first. */
export async function changesAfter(db: Db, positions: Positions, most: number): Promise<Change[]> {
  const { rows } = await sql<Change>`
    select c.* from ${sql.table('sync_state')} s
    left join unnest(${[...positions.keys()]}::text[], ${[...positions.values()]}::bigint[])
      as p (connection_id, change_no) on p.connection_id = s.connection_id
    cross join lateral (
      select connection_id, change_no, kind, record_id, op, changed_fields, at from ${sql.table('changes')} c
      where c.connection_id = s.connection_id and c.change_no > coalesce(p.change_no, 0)
      order by c.change_no limit ${most}
    ) c
    where s.last_change_no > coalesce(p.change_no, 0)
    order by c.at, c.connection_id, c.change_no`.execute(db);
  return rows;
}

/** Makes a consumer known, from now on.
 * @returns false where it was known. */
export async function registerConsumer(db: Db, schema: string, consumer: string): Promise<boolean> {
  const call = called(schema, 'register_consumer');
  const { rows } = await sql<{ made: boolean }>`select ${call}(${consumer}, 'now') as made`.execute(db);
  return rows[0]!.made;
}

/** Takes what is next for a consumer.
 * @throws of Postgres, with SQLSTATE {@link TOO_LATE} where it is gone. */
export async function readChanges(db: Db, schema: string, consumer: string, most: number): Promise<Change[]> {
  const call = called(schema, 'read_changes');
  const { rows } = await sql<Change>`select * from ${call}(${consumer}, ${most}::integer)`.execute(db);
  return rows;
}

/** Says that a consumer is done with these changes, and all before them. */
export async function ackChanges(
  db: Db,
  schema: string,
  consumer: string,
  changes: readonly Change[],
): Promise<void> {
  // The last one of each connection stays.
  const positions = Object.fromEntries(changes.map((change) => [change.connection_id, change.change_no]));
  await sql`select ${called(schema, 'ack_changes')}(${consumer}, ${JSON.stringify(positions)}::jsonb)`.execute(
    db,
  );
}

/** Gives back what was read and is not acknowledged, where the lease on it is still the reader's own. The owner's and the
 * writer's right: for any other role it ends by itself. */
export async function releaseChanges(db: Db, consumer: string, changes: readonly Change[]): Promise<void> {
  const ids = [...new Set(changes.map((change) => change.connection_id))];
  await sql`update ${sql.table('change_positions')} set leased_until = null
    where consumer = ${consumer} and connection_id = any(${ids}::text[])`.execute(db);
}

function called(schema: string, name: string): RawBuilder<unknown> {
  return sql`${sql.id(schema)}.${sql.id(name)}`;
}

/** How large the feed is, and how far behind its consumers are. */
export interface FeedReport {
  /** Changes that are kept. */
  readonly kept: number;
  readonly consumers: readonly ConsumerReport[];
}

export interface ConsumerReport {
  readonly consumer: string;
  /** Changes that it has not acknowledged. */
  readonly pending: number;
  /** Age of the oldest of them that is kept, in seconds; 0 where there is none. */
  readonly lag: number;
  /** Connections of which it comes too late: the next read of one fails, for its next change is gone. */
  readonly late: number;
}

/** Counts by numbers, which have no gaps: a look at the ends of each connection, whatever the size. */
export async function readFeed(db: Db): Promise<FeedReport> {
  const state = sql.table('sync_state');
  const { rows } = await sql<{ kept: string; consumers: ConsumerReport[] }>`
    select (
      select coalesce(sum(s.last_change_no - first.change_no + 1), 0) from ${state} s
      cross join lateral (select c.change_no from ${sql.table('changes')} c
        where c.connection_id = s.connection_id order by c.change_no limit 1) first
    ) as kept, (
      select coalesce(jsonb_agg(one), '[]') from (
        select k.consumer, coalesce(sum(s.last_change_no - coalesce(p.change_no, 0)), 0) as pending,
          coalesce(extract(epoch from clock_timestamp() - min(next.at)), 0) as lag,
          count(*) filter (where s.last_change_no > coalesce(p.change_no, 0)
            and next.change_no is distinct from coalesce(p.change_no, 0) + 1) as late
        from ${sql.table('change_consumers')} k cross join ${state} s
        left join ${sql.table('change_positions')} p
          on p.consumer = k.consumer and p.connection_id = s.connection_id
        left join lateral (select c.change_no, c.at from ${sql.table('changes')} c
          where c.connection_id = s.connection_id and c.change_no > coalesce(p.change_no, 0)
            and s.last_change_no > coalesce(p.change_no, 0)
          order by c.change_no limit 1) next on true
        group by k.consumer
      ) one
    ) as consumers`.execute(db);
  const { kept, consumers } = rows[0]!;
  return { kept: Number(kept), consumers };
}
