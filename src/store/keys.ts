import { type RawBuilder, sql } from 'kysely';
import type { ConnectionId } from '../model.ts';

/** A row by its key. */
export interface Key {
  readonly connectionId: ConnectionId;
  readonly id: string;
}

/** SQL: the connections of keys, in their order, as an array. */
export function connectionsOf(keys: readonly Key[]): RawBuilder<unknown> {
  return sql`${keys.map(({ connectionId }) => connectionId)}::text[]`;
}

/** SQL: the ids of keys, likewise. */
export function idsOf(keys: readonly Key[]): RawBuilder<unknown> {
  return sql`${keys.map(({ id }) => id)}::text[]`;
}

/** SQL: a set of keys. */
export function keySet(keys: readonly Key[]): RawBuilder<unknown> {
  return sql`(select * from unnest(${connectionsOf(keys)}, ${idsOf(keys)}))`;
}
