import { type Kysely, type RawBuilder, sql, type Transaction } from 'kysely';
import type { Database } from './schema.ts';

/*
 * How a page's transaction runs: what Postgres limits of it, and whether its plans are kept.
 *
 * Of a page of ten messages Postgres spends two thirds of its statement's time on planning it, so a session whose
 * statements have names (`session.ts`) keeps the plan. One that was made when `messages` was empty would take any of its
 * indexes, and read the whole connection for each row of the backlog that follows. So plans are kept once the table is
 * large, when the key's index is worth more than any other way; only of messages, whose statement joins nothing but by
 * look-ups in keys (sets that a statement makes itself pass for ten rows, and conversations join several of them); and
 * with sequential scans off, since other tables may still be empty. `session.ts` forgets all of them every minute.
 */

/** Limits that Postgres sets for a transaction, in milliseconds, so that the locks of one that is frozen end: a worker's
 * before its lease does. */
export interface TransactionLimits {
  /** Undefined: as the session has it. */
  readonly statementTimeout?: number;
  readonly idleTimeout: number;
  /** Whether `idleTimeout` is a default alone: one that the session has already, as its role's, counts instead. */
  readonly asDefault?: boolean;
  /** Whether plans of earlier ones may serve it; `anew` where it is undefined. */
  readonly plans?: Plans;
}

/** For whoever writes beside the pages. It may have much to do, but must not hold connections up for ever where it is
 * stopped half-way (Ctrl-Z). */
export const BESIDE: TransactionLimits = { idleTimeout: 60_000, asDefault: true };

/** `anew`: planned each time. */
export type Plans = 'anew' | 'kept where large';

/** From how many bytes on `messages` is large; some 5,000 rows. */
const LARGE = 2 * 1024 * 1024;

/**
 * Does `work` in a transaction in which each statement sees what was committed before it, whatever the role or the
 * database has for a default: who has waited for a lock goes on with what its holder has written.
 * A `select` that comes first may be sent before the transaction is known to have begun (`session.ts`).
 */
export async function inTransaction<T>(
  db: Kysely<Database>,
  limits: TransactionLimits,
  work: (trx: Transaction<Database>) => Promise<T>,
): Promise<T> {
  return await db
    .transaction()
    .setIsolationLevel('read committed')
    .execute(async (trx) => {
      await limit(trx, limits);
      return await work(trx);
    });
}

async function limit(
  trx: Transaction<Database>,
  { statementTimeout, idleTimeout, asDefault = false, plans = 'anew' }: TransactionLimits,
): Promise<void> {
  const idle = sql`${`${idleTimeout}ms`}`;
  const has = sql`nullif(current_setting('idle_in_transaction_session_timeout'), '0')`;
  const settings = {
    ...(statementTimeout !== undefined && { statement_timeout: sql`${`${statementTimeout}ms`}` }),
    idle_in_transaction_session_timeout: asDefault ? sql`coalesce(${has}, ${idle})` : idle,
    // Compiling a page's statement takes seconds, each time anew, and nothing interrupts it.
    jit: sql.lit('off'),
    ...(plans !== 'anew' && {
      plan_cache_mode: sql.lit('force_generic_plan'),
      enable_seqscan: sql.lit('off'),
    }),
  };
  const set = Object.entries(settings).map(
    ([name, value]) => sql`set_config(${sql.lit(name)}, ${value}, true)`,
  );
  await sql`select ${sql.join(set)}`.execute(trx);
}

/** Lets no statement to come in a transaction wait for a lock longer than so many milliseconds. */
export async function limitLockWait(trx: Transaction<Database>, ms: number): Promise<void> {
  await sql`select set_config('lock_timeout', ${`${ms}ms`}, true)`.execute(trx);
}

/**
 * Has the server look every second whether this process is still there. It would go on waiting for a lock otherwise, with
 * everybody else who wants what is locked behind it, and then run the statement to its end.
 */
export async function undoneWithoutUs(trx: Transaction<Database>): Promise<void> {
  // Where the server's system cannot tell, the setting is refused.
  await sql`do $$ begin
    perform set_config('client_connection_check_interval', '1s', true);
  exception when invalid_parameter_value then null; end $$`.execute(trx);
}

/** Lets the statements to come in a transaction take as long as they do: its lock is had. */
export async function liftTimeout(trx: Transaction<Database>): Promise<void> {
  await sql`select set_config('statement_timeout', '0', true)`.execute(trx);
}

/**
 * SQL, in a list of columns: what comes now is planned anew after all, unless `condition` is true and `messages` large.
 * @param sibling `tableoid` of a row of any table in the same schema, whose name is not known here.
 */
export function planAnewUnless(
  condition: RawBuilder<unknown>,
  sibling: RawBuilder<unknown>,
): RawBuilder<unknown> {
  const size = sql`select pg_relation_size(m.oid) from pg_class m where m.relname = 'messages'
      and m.relnamespace = (select n.relnamespace from pg_class n where n.oid = ${sibling})`;
  return sql`case when not (${condition} and coalesce((${size}), 0) >= ${sql.lit(LARGE)})
    then set_config('enable_seqscan', 'on', true) || set_config('plan_cache_mode', 'force_custom_plan', true) end`;
}
