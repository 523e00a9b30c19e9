import { type Kysely, sql } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { type Database, TABLES } from './schema.ts';
import type { Unfit } from './server.ts';

/**
 * The tables of which row-level security may keep rows from this role, or refuse some that it writes. What is hidden is
 * no error: suppressions that nobody sees let in again whom they keep out, and an erasure leaves what it does not see.
 * The owner is exempt, unless the security is forced; so is a role with BYPASSRLS, and one whom policies let see and
 * write everything.
 */
async function hiddenTables(
  db: Kysely<Database>,
  schema: string,
): Promise<{ readonly role: string; readonly tables: string[] }> {
  const isTrue = (expression: string) =>
    sql.raw(`coalesce(pg_get_expr(${expression}, p.polrelid), 'true') = 'true'`);
  const all = sql`${isTrue('p.polqual')} and ${isTrue('p.polwithcheck')}`;
  const policies = sql`select from pg_policy p where p.polrelid = c.oid
    and exists (select from unnest(p.polroles) r (oid) where r.oid = 0 or pg_has_role(r.oid, 'usage'))`;
  const { rows } = await sql<{ role: string; tables: string[] }>`
    select current_user as role, coalesce(array_agg(c.relname::text order by c.relname), '{}') as tables
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind in ('r', 'p') and c.relname = any(${[...TABLES]}::text[])
      and row_security_active(c.oid)
      and (
        exists (select from unnest('{r,a,w,d}'::"char"[]) k (command)
          where not exists (${policies} and p.polpermissive and p.polcmd in ('*', k.command) and ${all}))
        or exists (${policies} and not p.polpermissive and not (${all}))
      )`.execute(db);
  return rows[0]!;
}

/** What row-level security is in the way of, and what to do; undefined where it hides nothing. */
export async function hidden(db: Kysely<Database>, schema: string): Promise<Unfit | undefined> {
  const { role, tables } = await hiddenTables(db, schema);
  if (tables.length === 0) return undefined;
  const quoted = `"${role.replaceAll('"', '""')}"`;
  return {
    what: `row-level security may hide rows of ${tables.join(', ')} from ${role}`,
    remedy:
      `as a superuser: ALTER ROLE ${quoted} BYPASSRLS; or as the owner, of each: ` +
      `CREATE POLICY replica ON ${schema}.${tables[0]} TO ${quoted} USING (true);`,
  };
}

/** @throws ReplicaError `database_unfit` where {@link hidden} finds something: whoever writes has to see everything. */
export async function requireSight(db: Kysely<Database>, schema: string): Promise<void> {
  const found = await hidden(db, schema);
  if (found !== undefined)
    throw new ReplicaError('database_unfit', { where: found.what, hint: found.remedy });
}
