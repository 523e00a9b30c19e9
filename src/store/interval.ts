import { type RawBuilder, sql } from 'kysely';

/** SQL: an interval of so many milliseconds. */
export function interval(ms: number): RawBuilder<unknown> {
  return sql`make_interval(secs => ${ms / 1000}::float8)`;
}
