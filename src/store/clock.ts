/**
 * SQL: whether a time is over, by the database's clock. Nothing that is waited for (a lease, a claim, a pause before the
 * next try) lasts longer than a day: what ends later was written before that clock was put back, and holds nobody up.
 */
export function isOver(time: string): string {
  return `(${time} <= clock_timestamp() or ${time} > clock_timestamp() + interval '25 hours')`;
}
