import { type RawBuilder, sql } from 'kysely';
import { interval } from './interval.ts';

/**
 * SQL: whether a time is over, by the database's clock. Nothing that is waited for (a lease, a claim, a pause before the
 * next try) lasts longer than a day: what ends later was written before that clock was put back, and holds nobody up.
 */
export function isOver(time: string): string {
  return `(${time} <= clock_timestamp() or ${time} > clock_timestamp() + interval '25 hours')`;
}

/** SQL: the moment so many milliseconds ago, by the earlier of the clocks of Postgres and of this process: what is deleted
 * for one that was put forward is gone for good. */
export function agoByBoth(ms: number): RawBuilder<unknown> {
  const here = new Date().toISOString();
  return sql`least(clock_timestamp(), ${here}::timestamptz) - ${interval(ms)}`;
}
