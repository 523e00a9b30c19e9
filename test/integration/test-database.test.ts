import pg from 'pg';
import { describe, expect, inject, test } from 'vitest';
import { createTestDatabase, expectNoConnections, useTestDatabase } from '../support/database.ts';

describe('a test database', () => {
  const database = useTestDatabase();

  test('is empty and one of its own', async () => {
    expect(await database.query('select current_database() as name')).toEqual([{ name: database.name }]);
    const tables = await database.query(
      `select from pg_tables where schemaname !~ '^(pg_|information_schema)'`,
    );
    expect(tables).toEqual([]);
  });

  test('comes from a migrated template, which several may ask for at once', async () => {
    const made = await Promise.all([1, 2, 3].map(() => createTestDatabase({ migrated: true })));
    expect(new Set(made.map(({ name }) => name)).size).toBe(3);
    for (const one of made) {
      const [tables] = await one.query(
        `select count(*)::int as n from pg_tables where schemaname = 'whatsapp'`,
      );
      expect(tables?.n).toBeGreaterThan(0);
      await one.drop();
    }
  });

  test('complains of a connection that was left open, and is dropped all the same', async () => {
    const doomed = await createTestDatabase();
    const client = new pg.Client({ connectionString: doomed.url, application_name: 'the leak' });
    client.on('error', () => {});
    await client.connect();
    await expect(expectNoConnections(doomed.name, 50)).rejects.toThrow(/leaked connections.*the leak/);
    await expect(doomed.drop(50)).rejects.toThrow('the leak');
    await client.end().catch(() => {});
    expect(await database.query('select from pg_database where datname = $1', [doomed.name])).toEqual([]);
  });

  test('the seed is a number', () => {
    expect(Number.isInteger(inject('seed'))).toBe(true);
  });
});
