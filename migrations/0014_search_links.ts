import { type Kysely, sql } from 'kysely';

/** Where `0011_search_beginnings` begins in it. */
const BEFORE = `        -- Without the star, which an address would take for a part of itself.
`;

const NOW = `        -- What has a colon in it, as a link, is meant as it stands: without quotes it would be taken apart there, and what
        -- follows taken for a path.
        select string_agg(
          case when p.part ~ '^[^"]+:[^[:space:]]' then regexp_replace(p.part, '^(-?)(.*)$', '\\1"\\2"') else p.part end,
          '' order by p.place)
        into query
        from (
          select m[1] as part, place
          from regexp_matches(query, '("[^"]*"?|[^"[:space:]]+|[[:space:]]+)', 'g') with ordinality r (m, place)
        ) p;
${BEFORE}`;

/**
 * A search finds a link that is pasted into it (`https://example.com/invoice/17`), and a host with its port. It found
 * nothing there, but in quotes. All else of the function stays as it is.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ definition: string }>`
    select pg_get_functiondef(p.oid) as definition from pg_proc p
    where p.proname = 'search_messages' and p.pronamespace = current_schema()::regnamespace`.execute(db);
  const parts = rows[0]!.definition.split(BEFORE);
  if (parts.length !== 2) throw new Error('search_messages is not as 0011_search_beginnings made it');
  await sql.raw(parts.join(NOW)).execute(db);
}
