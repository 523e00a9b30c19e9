import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCommand } from '../support/command.ts';
import { SCHEMA } from '../support/database.ts';
import { CLOCK, Doctor, HEARD, REACHABLE, UP_TO_DATE } from './doctor.ts';

/* What `doctor` says of what a role may do: the GRANT that it prints is the one that is missing. */

const { database, urlWith, examine } = Doctor.use();

describe('a role', () => {
  let role: string;
  let url: string;
  beforeEach(async (context) => {
    const [me] = await database.query<{ may: boolean }>(
      'select rolcreaterole or rolsuper as may from pg_roles where rolname = current_user',
    );
    context.skip(me?.may !== true, 'this role may not make others');
    role = `wa "test" ${randomBytes(4).toString('hex')}`;
    await database.query(`create role ${quoted(role)} login password 'of-the-role'`);
    url = urlWith({ username: encodeURIComponent(role), password: 'of-the-role' });
  });
  afterEach(async () => {
    await database.query(`drop owned by ${quoted(role)} cascade`);
    await database.query(`drop role ${quoted(role)}`);
  });
  const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

  /** What doctor advises to run, from the line below the problem. */
  async function follow(lines: readonly unknown[]): Promise<void> {
    const advice = String(lines[3])
      .trim()
      .replace(/^as an owner: /, '');
    expect(advice).toMatch(/^GRANT .*;$/);
    await database.query(advice);
  }

  test('that may do nothing is told of each GRANT, until all is well', async () => {
    const first = (await examine(url)).lines;
    expect(first.slice(2, 4)).toEqual([
      `✗ privileges: ${role} may not use the schema whatsapp`,
      `    GRANT USAGE ON SCHEMA whatsapp TO ${quoted(role)};`,
    ]);
    await follow(first);
    // What it may not read hides nothing that it may.
    await database.query(`grant select on whatsapp.kysely_migration to ${quoted(role)}`);
    expect((await examine(url)).lines.slice(4)).toEqual([UP_TO_DATE, HEARD]);
    const second = (await examine(url)).lines;
    expect(second[2]).toMatch(
      new RegExp(`^✗ privileges: ${role} lacks DELETE, INSERT, SELECT, UPDATE on change_consumers, `),
    );
    expect(second[3]).toBe(
      `    GRANT DELETE, INSERT, SELECT, UPDATE ON ALL TABLES IN SCHEMA whatsapp TO ${quoted(role)};`,
    );
    await follow(second);
    expect((await examine(url)).lines).toEqual([
      REACHABLE,
      CLOCK,
      `✓ privileges: ${role} may read and write the tables`,
      UP_TO_DATE,
      HEARD,
    ]);
  });

  test('that lacks one privilege on one table is told of just that', async () => {
    await database.query(`grant usage on schema ${SCHEMA} to ${quoted(role)}`);
    await database.query(
      `grant select, insert, update, delete on all tables in schema ${SCHEMA} to ${quoted(role)}`,
    );
    await database.query(`revoke update on whatsapp.sync_state from ${quoted(role)}`);
    const { lines } = await examine(url);
    expect(lines.slice(2, 4)).toEqual([
      `✗ privileges: ${role} lacks UPDATE on sync_state`,
      `    GRANT UPDATE ON ALL TABLES IN SCHEMA whatsapp TO ${quoted(role)};`,
    ]);
    await follow(lines);
    expect(await examine(url)).toMatchObject({ status: 0 });
  });

  test('that may have no other connection for LISTEN is told so, and of no setting that is not there', async () => {
    await database.query(`grant usage on schema ${SCHEMA} to ${quoted(role)}`);
    await database.query(
      `grant select, insert, update, delete on all tables in schema ${SCHEMA} to ${quoted(role)}`,
    );
    await database.query(`alter role ${quoted(role)} connection limit 1`);
    const { lines } = await examine(url);
    expect(lines.slice(4)).toEqual([
      '✗ listen: no connection (53300)',
      '    Postgres has no connection free: raise max_connections, or lower DB_POOL_SIZE',
    ]);
  });

  test('that may not create the schema', async () => {
    await database.query('drop schema whatsapp cascade');
    const { lines } = await examine(url);
    expect(lines.slice(2, 4)).toEqual([
      `✗ privileges: ${role} may not create the schema whatsapp`,
      `    as an owner: GRANT CREATE ON DATABASE "${database.name}" TO ${quoted(role)};`,
    ]);
    await follow(lines);
    expect(await examine(url)).toMatchObject({ status: 0 });
    const env = { DATABASE_URL: url };
    expect(await runCommand(['migrate'], env)).toMatchObject({ status: 0 });
  });

  test('that writes, but does not own the tables, may not migrate', async () => {
    await database.query(`grant usage on schema ${SCHEMA} to ${quoted(role)}`);
    await database.query(
      `grant select, insert, update, delete on all tables in schema ${SCHEMA} to ${quoted(role)}`,
    );
    expect(await examine(url)).toMatchObject({ status: 0 });
    await database.query('delete from whatsapp.kysely_migration');
    const { status, lines } = await examine(url);
    expect(status).toBe(1);
    expect(lines[3]).toMatch(/^✗ schema: \d+ migrations pending, none done yet; this role may not migrate$/);
    expect(lines[4]).toBe('    run `wa-replica migrate` as the owner of the tables');
    // Nor may one that owns them and may make none beside them.
    await database.query(`do $$ declare one text; begin
      for one in select tablename from pg_tables where schemaname = '${SCHEMA}' loop
        execute format('alter table ${SCHEMA}.%I owner to %I', one, '${role}');
      end loop; end $$`);
    expect((await examine(url)).lines[3]).toBe(lines[3]);
    await database.query(`grant create on schema ${SCHEMA} to ${quoted(role)}`);
    expect((await examine(url)).lines[3]).toMatch(/^! schema: \d+ migrations pending, none done yet$/);
  });
});
