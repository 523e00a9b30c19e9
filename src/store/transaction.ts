import { type Kysely, type RawBuilder, sql, type Transaction } from 'kysely';
import type { Db } from './database.ts';
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

/** Limits that Postgres sets for a transaction, so that a frozen worker's lock ends before its lease does. */
export interface TransactionLimits {
  readonly statementTimeout: number;
  readonly idleTimeout: number;
}

/** `anew`: planned each time. `kept`: of statements on the state row alone. `kept where large`: of messages too. */
export type Plans = 'anew' | 'kept' | 'kept where large';

/** From how many bytes on `messages` is large; some 5,000 rows. */
const LARGE = 2 * 1024 * 1024;

/**
 * Does `work` in a transaction in which each statement sees what was committed before it, whatever the role or the
 * database has for a default: who has waited for a lock goes on with what its holder has written.
 */
export function inTransaction<T>(
  db: Kysely<Database>,
  work: (trx: Transaction<Database>) => Promise<T>,
): Promise<T> {
  return db.transaction().setIsolationLevel('read committed').execute(work);
}

/** Sets the limits, in milliseconds, for the transaction at hand, and whether plans of earlier ones may serve it. */
export async function limitTransaction(
  db: Db,
  limits: TransactionLimits,
  plans: Plans = 'anew',
): Promise<void> {
  const keep = sql`, set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)`;
  await sql`select set_config('statement_timeout', ${`${limits.statementTimeout}ms`}, true),
    set_config('idle_in_transaction_session_timeout', ${`${limits.idleTimeout}ms`}, true)
    ${plans === 'anew' ? sql`` : keep}`.execute(db);
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
