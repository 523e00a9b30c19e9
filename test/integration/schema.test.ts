import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { columnType, ENTITIES } from '../../src/entities.ts';
import { TABLES } from '../../src/store/schema.ts';
import { useTestDatabase } from '../support/database.ts';

const database = useTestDatabase({ migrated: true });

interface Column {
  table_name: string;
  column_name: string;
  type: string;
  not_null: boolean;
  default_text: string | null;
}

const columns = () =>
  database.query<Column & Record<string, unknown>>(`
    select c.relname as table_name, a.attname as column_name, format_type(a.atttypid, a.atttypmod) as type,
      a.attnotnull as not_null,
      case when a.attidentity <> '' then 'identity' else pg_get_expr(d.adbin, d.adrelid) end as default_text
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p')
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'whatsapp'
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped and c.relname !~ '^kysely'
    order by c.relname, a.attnum`);

/** The schema as text: what this file holds is what `migrate` makes; a change shows as a difference in review. */
test('the migrations make the committed schema (update with `npm run test:run -- -u`)', async () => {
  const lines: string[] = [];
  let table = '';
  for (const column of await columns()) {
    if (column.table_name !== table) {
      table = column.table_name;
      lines.push('', table);
    }
    const rules = [
      column.not_null ? 'not null' : '',
      column.default_text ? `default ${column.default_text}` : '',
    ];
    lines.push([`  ${column.column_name}`, column.type, ...rules.filter((rule) => rule !== '')].join(' '));
  }
  const indexes = await database.query<{ indexdef: string }>(
    `select indexdef from pg_indexes where schemaname = 'whatsapp' and tablename !~ '^kysely' order by indexname`,
  );
  lines.push('', 'indexes', ...indexes.map((index) => `  ${index.indexdef}`));
  await expect(`${lines.join('\n').trim()}\n`).toMatchFileSnapshot('../../migrations/schema.txt');
});

test('every field of the entities has its column, of its type', async () => {
  const all = await columns();
  for (const entity of ENTITIES) {
    for (const [name, type] of Object.entries(entity.fields)) {
      const column = all.find((one) => one.table_name === entity.table && one.column_name === name);
      const want = columnType(type).replace('timestamptz', 'timestamp with time zone');
      expect(column?.type, `${entity.table}.${name}`).toBe(want);
    }
  }
});

test('every key begins with connection_id, and there are no foreign keys', async () => {
  const keys = await database.query<{ table_name: string; first: string; type: string }>(`
    select c.relname as table_name, k.contype as type,
      (select attname from pg_attribute a where a.attrelid = c.oid and a.attnum = k.conkey[1]) as first
    from pg_constraint k join pg_class c on c.oid = k.conrelid
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'whatsapp'
    where c.relname !~ '^kysely' and k.contype in ('p', 'f', 'u')`);
  expect(keys.filter((key) => key.type === 'f')).toEqual([]);
  const others = keys.filter((key) => key.first !== 'connection_id').map((key) => key.table_name);
  expect(others.sort()).toEqual(['change_consumers', 'crm_links', 'workers']);
});

test('every column outside a key is nullable or has a default', async () => {
  const bare = await database.query<{ name: string }>(`
    select c.relname || '.' || a.attname as name from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
    join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'whatsapp'
    where a.attnum > 0 and a.attnotnull and not a.atthasdef and a.attidentity = '' and c.relname !~ '^kysely'
      and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and a.attnum = any(i.indkey))`);
  // quarantine: part of its contract, and always known.
  expect(bare.map((row) => row.name).sort()).toEqual(['quarantine.kind']);
});

test('the tables that the code qualifies are those that there are', async () => {
  const tables = new Set((await columns()).map((column) => column.table_name));
  expect(new Set([...TABLES].filter((name) => !name.startsWith('kysely')))).toEqual(tables);
});

test('the types of the tables are those of their columns', async () => {
  const all = await columns();
  const source = ['schema.ts', 'schema-beside.ts', 'schema-crm.ts']
    .map((file) => readFileSync(new URL(`../../src/store/${file}`, import.meta.url), 'utf8'))
    .join('\n');
  const interfaces = new Map(
    [...source.matchAll(/interface (\w+) \{([^}]*)\}/g)].map(([, name, body]) => [name!, body!]),
  );
  const tables = [...source.matchAll(/^ {2}(\w+): (\w+Table);$/gm)];
  expect(tables.length).toBeGreaterThan(15);
  for (const [, table, type] of tables) {
    // Kysely's own, of its own form.
    if (table === 'kysely_migration') continue;
    const types = new Map(
      [...interfaces.get(type!)!.matchAll(/^ {2}(\w+): ([^;]+);$/gm)].map(([, name, text]) => [name!, text!]),
    );
    // What may be anything may be null.
    const mayBeNull = (name: string) =>
      types.get(name) === 'unknown' || /null|Nullable/.test(types.get(name) ?? '');
    const there = all.filter((column) => column.table_name === table);
    expect([table, [...types.keys()].sort()]).toEqual([table, there.map((one) => one.column_name).sort()]);
    const nullable = there.filter((one) => !one.not_null || types.get(one.column_name) === 'unknown');
    expect([table, [...types.keys()].filter(mayBeNull).sort()]).toEqual([
      table,
      nullable.map((one) => one.column_name).sort(),
    ]);
  }
});
