import { type Kysely, sql } from 'kysely';

/** How `0005_crm` finds what begins with a word: by letters and digits alone, wherever they stand in the query's text. */
const BEFORE = `        wanted := websearch_to_tsquery('simple', query);
        -- word* is what begins with it.
        for prefix in select distinct lower(p[1]) from regexp_matches(query, '([[:alnum:]]+)\\*', 'g') p loop
          wanted := replace(wanted::text, quote_literal(prefix), quote_literal(prefix) || ':*')::tsquery;
        end loop;
`;

/** By what Postgres itself takes for the words that end there: with a hyphen several, of a number with its sign. */
const NOW = `        -- Without the star, which an address would take for a part of itself.
        wanted := websearch_to_tsquery('simple', regexp_replace(query, '\\*+(?=[[:space:]"]|$)', '', 'g'));
        -- word* is what begins with it.
        for prefix in
          select distinct quote_literal((ts_lexize('simple', t.token))[1])
          from regexp_matches(query, '([^[:space:]"*]+)\\*', 'g') p, ts_parse('default', ltrim(p[1], '-')) t
          where right(p[1], length(t.token)) = t.token
        loop
          -- A whole word: what is quoted in one has its quotes twice.
          wanted := regexp_replace(wanted::text, '(?<!'')' || regexp_replace(prefix, '([!-/:-@\\[-\`{-~])', '\\\\\\1', 'g')
            || '(?!'')', '\\&:*', 'g')::tsquery;
        end loop;
`;

/**
 * `begin*` in a search finds what begins so also where there is more in it than letters and digits: `RE-20*`, `+49151*`,
 * `12.5*`, `example.com/in*`, and in scripts whose vowels are signs, such as Devanagari. It found nothing there. All else
 * of the function stays as it is.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ definition: string }>`
    select pg_get_functiondef(p.oid) as definition from pg_proc p
    where p.proname = 'search_messages' and p.pronamespace = current_schema()::regnamespace`.execute(db);
  const parts = rows[0]!.definition.split(BEFORE);
  if (parts.length !== 2) throw new Error('search_messages is not as 0005_crm made it');
  await sql.raw(parts.join(NOW)).execute(db);
}
