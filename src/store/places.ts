/*
 * Rows by their place, where a statement has just looked them up by key: what it writes then need not be looked for
 * again. A place is one of a table; where the tables are partitioned (docs/scaling.md) each partition has the same ones,
 * so that none is told without its table.
 */

/** SQL, in a list of columns: where a row is. */
export function placeOf(row: string): string {
  return `${row}.ctid as place, ${row}.tableoid as home`;
}

/** SQL: whether a row is where another, which has the columns of {@link placeOf}, says. */
export function isAt(row: string, other: string): string {
  return `${row}.ctid = ${other}.place and ${row}.tableoid = ${other}.home`;
}

/** SQL: whether a row is at one of the places of a set, all of one connection and so in one table. Not as a join, which
 * would read all that the connection has, where the planner knows no better. */
export function isAmong(row: string, set: string): string {
  return `${row}.ctid = any(array(select place from ${set}))
        and ${row}.tableoid = any(array(select home from ${set}))`;
}
