import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';

/**
 * SQL: whether a row that is taken by its place (`ctid`) is of this connection. It belongs beside every such condition:
 * of a partitioned table each partition has a row at that place, other connections' too. By an expression that no index
 * has, so that the planner keeps to the place: by the column it would read all that the connection has, where it knows
 * no better.
 */
export function isOf(alias: string, connectionId: ConnectionId): RawBuilder<boolean> {
  return sql`${sql.ref(`${alias}.connection_id`)} || '' = ${connectionId}::text`;
}
