import { type RawBuilder, sql } from 'kysely';
import type { Db } from './database.ts';
import type { Database } from './schema.ts';

/** Tables whose rows are numbered by Postgres, and the column. */
const NUMBERED = [
  ['sync_pages', 'page_id'],
  ['quarantine', 'quarantine_id'],
  ['verifications', 'verification_id'],
  ['gaps', 'gap_id'],
  ['erasures', 'erasure_id'],
] as const satisfies readonly (readonly [keyof Database, string])[];

/** A table whose next number is one that rows may have already. */
export interface Behind {
  readonly table: string;
  /** Its sequence, as a name in SQL. */
  readonly sequence: string;
  readonly highest: string;
  /** Whether this role may set the sequence. */
  readonly may: boolean;
}

/**
 * The tables whose next number is not above those of their rows, as far as this role may look: logical replication copies
 * rows, and no sequences; so do copies by hand. A page's number would come again then: the page is refused, or stands
 * among older ones in the ledger, whose order the numbers are.
 */
export async function identitiesBehind(db: Db, schema: string): Promise<Behind[]> {
  const found: Behind[] = [];
  for (const [table, column] of NUMBERED) {
    const { rows } = await sql<Behind>`
      -- Each connection's highest is one look into the key.
      with recursive ids (connection_id) as (
        (select t.connection_id from ${sql.table(table)} t order by t.connection_id limit 1)
        union all
        select ${oneBehind(table)} from ids i where i.connection_id is not null
      ), numbered (highest) as (
        select max((select max(t.${sql.id(column)}) from ${sql.table(table)} t where t.connection_id = i.connection_id))
        from ids i
      )
      select ${table}::text as table, s.name as sequence, r.highest, has_sequence_privilege(s.name, 'update') as may
      from numbered r
      cross join (select pg_get_serial_sequence(format('%I.%I', ${schema}::text, ${table}::text), ${column}) as name) s
      join pg_sequences q on format('%I.%I', q.schemaname, q.sequencename) = s.name
      where has_sequence_privilege(s.name, 'select') and r.highest > coalesce(q.last_value, 0)`.execute(db);
    found.push(...rows);
  }
  return found;
}

/** SQL: the next connection of a table behind that of `i`. */
function oneBehind(table: keyof Database): RawBuilder<unknown> {
  return sql`(select t.connection_id from ${sql.table(table)} t
    where t.connection_id > i.connection_id order by t.connection_id limit 1)`;
}

/** Has the numbers go on behind the rows. The caller sees to it that nobody else does, meanwhile. */
export async function moveOn(db: Db, { sequence, highest }: Behind): Promise<void> {
  await sql`select setval(${sequence}::regclass, ${highest}::bigint)`.execute(db);
}
