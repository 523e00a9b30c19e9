import { CONVERSATION, columnType, type Entity } from '../entities.ts';

/** Columns whose difference makes another version: the upstream's fields and what is kept beside them. */
export function contentColumns(entity: Entity): string[] {
  return [...Object.keys(entity.fields), 'extra'];
}

/** The columns of an incoming row, with their Postgres types: the key comes first, the version and a membership last. */
export function columnTypes(entity: Entity): Record<string, string> {
  const fields = Object.entries(entity.fields).map(([name, type]) => [name, columnType(type)]);
  return {
    [entity.key]: 'text',
    ...Object.fromEntries(fields),
    extra: 'jsonb',
    [entity.version]: 'bigint',
    ...(entity === CONVERSATION && { participants: 'jsonb' }),
  };
}

/** What a column of a partial row `i` comes to over the stored row `e`: what it does not tell is as it was (R7). */
export function merged(column: string): string {
  return column === 'extra'
    ? "case when i.extra is null then e.extra else coalesce(e.extra, '{}') || i.extra end"
    : `coalesce(i.${column}, e.${column})`;
}
