import type { TestDatabase } from './database.ts';

/** Every row of every table of the replica, as Postgres writes it, by table. */
export async function dump(database: Pick<TestDatabase, 'query'>): Promise<Map<string, string[]>> {
  const tables = await database.query<{ name: string }>(
    `select c.relname as name from pg_class c where c.relnamespace = 'whatsapp'::regnamespace and c.relkind in ('r', 'm')
      order by 1`,
  );
  const all = new Map<string, string[]>();
  for (const { name } of tables) {
    const rows = await database.query<{ row: string }>(
      `select t::text as row from whatsapp.${name} t order by 1`,
    );
    all.set(
      name,
      rows.map(({ row }) => row),
    );
  }
  return all;
}

/** Where in a dump any of these texts stands, as `table: row`. */
export function traces(all: ReadonlyMap<string, readonly string[]>, texts: readonly string[]): string[] {
  return [...all].flatMap(([table, rows]) =>
    rows.filter((row) => texts.some((text) => row.includes(text))).map((row) => `${table}: ${row}`),
  );
}
