/**
 * The places at which a death matters, in the order of a page's life. A crash at any of them can leave a page that
 * is fetched again, never rows without their cursor or a cursor without its rows: what commits, commits together.
 */
export const CRASH_POINTS = [
  /** During `migrate`, inside its transaction. */
  'migrating',
  /** The page is in memory, nothing is written. */
  'fetched',
  /** Inside the page's transaction, behind the rows. */
  'rows_written',
  /** Inside it, behind ledger and cursor. */
  'before_commit',
  /** Postgres has committed, the loop does not know yet. */
  'committed',
  /** Asked to stop, leases not given back yet. */
  'stopping',
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

/** Told when a crash point is reached; does nothing but in the chaos test, which kills the process there. */
export type Reached = (point: CrashPoint) => void;
