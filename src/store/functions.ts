import { sql } from 'kysely';
import type { Db } from './database.ts';

/** The functions that migrations make: each looks into the schema that it was made in. */
const FUNCTIONS = [
  'consumer_start',
  'register_consumer',
  'restart_consumer',
  'drop_consumer',
  'read_changes',
  'ack_changes',
  'search_messages',
  'tend_search',
];

/** A function that looks into another schema than the one that it is in. */
export interface Stray {
  readonly name: string;
  /** As `alter function` wants it. */
  readonly signature: string;
  /** Where it looks. */
  readonly looksInto: string;
  readonly definition: string;
  /** Whether this role may change it. */
  readonly may: boolean;
}

/** Functions that were made when the schema had another name: `alter schema … rename` leaves in them what it was. */
export async function strayFunctions(db: Db, schema: string): Promise<Stray[]> {
  const { rows } = await sql<Stray>`
    select p.proname::text as name, l.schema as "looksInto", pg_get_functiondef(p.oid) as definition,
      format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as signature,
      pg_has_role(p.proowner, 'usage') as may
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    cross join lateral (
      select (regexp_match(c, '^search_path="?pg_catalog"?, "?([^",]+)"?, "?pg_temp"?$'))[1] as schema from unnest(p.proconfig) c
    ) l
    where n.nspname = ${schema} and p.proname = any(${FUNCTIONS}::text[]) and l.schema <> n.nspname
    order by 1, signature`.execute(db);
  return rows;
}

/** Has a function look into the schema that it is in. */
export async function turnHome(
  db: Db,
  schema: string,
  { definition, signature, looksInto }: Stray,
): Promise<void> {
  // Two of them also name it in a text.
  const home = definition
    .replaceAll(`'${looksInto}.messages_by_`, () => `'${schema}.messages_by_`)
    .replaceAll(`'${looksInto}', read_changes.consumer`, () => `'${schema}', read_changes.consumer`);
  if (home !== definition) await sql.raw(home).execute(db);
  await sql`alter function ${sql.raw(signature)} set search_path = pg_catalog, ${sql.id(schema)}, pg_temp`.execute(
    db,
  );
}
