import { type Kysely, sql } from 'kysely';

type Replacement = readonly [before: string, now: string];

/** What a function's own is called where a column of a table could have the same name. */
const FUNCTIONS: Readonly<Record<string, readonly Replacement[]>> = {
  consumer_start: [[`case when starting = 'now'`, `case when consumer_start.starting = 'now'`]],
  register_consumer: [
    [
      'consumer_start(s.connection_id, starting)',
      'consumer_start(s.connection_id, register_consumer.starting)',
    ],
  ],
  restart_consumer: [
    [
      'consumer_start(s.connection_id, starting)',
      'consumer_start(s.connection_id, restart_consumer.starting)',
    ],
  ],
  read_changes: [
    ['    declare\n', '    <<reading>>\n    declare\n'],
    [
      'select r.*, row_number()',
      'select r.connection_id, r.change_no, r.kind, r.record_id, r.op, r.changed_fields, r.at, row_number()',
    ],
    ['one.change_no + wanted', 'one.change_no + reading.wanted'],
    ['one.change_no + handed', 'one.change_no + reading.handed'],
    ['clock_timestamp() + lease', 'clock_timestamp() + read_changes.lease'],
  ],
  search_messages: [
    ['    declare\n', '    <<search>>\n    declare\n'],
    [
      'm.sent_at >= earliest and m.sent_at < latest',
      'm.sent_at >= search.earliest and m.sent_at < search.latest',
    ],
    ['desc limit per_lane\n', 'desc limit search.per_lane\n'],
    ['      prefix text;\n', '      prefix text;\n      beginnings text[] := array[]::text[];\n'],
    [
      '        -- Without the star, which an address would take for a part of itself.\n',
      `        -- An address, and what goes on behind a dot, is one word there. Until all else is read, another stands for it.
        loop
          prefix := (regexp_match(query, ${sqlText(addressed())}))[1];
          exit when prefix is null;
          beginnings := beginnings || prefix;
          query := regexp_replace(query, ${sqlText(addressed())}, 'wareplicabegin' || cardinality(beginnings) || 'x');
        end loop;
        -- Without the star, which an address would take for a part of itself.
`,
    ],
    [
      '        if wanted is null or numnode(wanted) = 0',
      `        for i in 1 .. cardinality(beginnings) loop
          wanted := replace(wanted::text, quote_literal('wareplicabegin' || i || 'x'), format('(%L:* | %s%s)',
            (ts_lexize('simple', beginnings[i]))[1],
            -- Or as it is in a text in which it is no address: in words.
            phraseto_tsquery('simple', beginnings[i]),
            case when beginnings[i] ~ '[[:alnum:]]$' then ':*' end))::tsquery;
        end loop;
        if wanted is null or numnode(wanted) = 0`,
    ],
  ],
};

/** A regular expression: what begins a word, has the sign of an address in it or ends in a dot, and has a star. */
function addressed(): string {
  const part = `[^][:space:]"*:\\\\'()&|!<>@[]*`;
  return `(?<![^[:space:]"-])([[:alnum:]]${part}(?:@${part}|\\.))\\*+(?=[[:space:]"]|$)`;
}

function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/**
 * Columns that somebody adds to the tables are in no function's way, whatever they are called: one `place` in `changes`
 * had `read_changes` fail. And `begin*` in a search finds what goes on behind a dot or in an address: `example.*`,
 * `anna@exam*`. All else of the functions stays as it is.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const [name, replacements] of Object.entries(FUNCTIONS)) {
    const { rows } = await sql<{ definition: string }>`
      select pg_get_functiondef(p.oid) as definition from pg_proc p
      where p.proname = ${name} and p.pronamespace = current_schema()::regnamespace`.execute(db);
    let { definition } = rows[0]!;
    for (const [before, now] of replacements) {
      if (!definition.includes(before)) throw new Error(`${name} is not as the migrations before made it`);
      definition = definition.replaceAll(before, () => now);
    }
    await sql.raw(definition).execute(db);
  }
}
