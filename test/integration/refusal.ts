import { afterEach, beforeAll } from 'vitest';
import type { TestDatabase } from '../support/database.ts';

const TABLES = ['messages', 'conversations', 'contacts', 'conversation_participants'];

/** Makes Postgres refuse rows in which it says `refuse:` and an SQLSTATE, with just that; at the begin of each test it does. */
export function useRefusal(database: TestDatabase): void {
  beforeAll(() => install(database));
  afterEach(() => refusal(database, 'on'));
}

async function install(database: TestDatabase): Promise<void> {
  await database.query(`
    create sequence whatsapp.refusals;
    create function whatsapp.refuse() returns trigger language plpgsql as $$
    declare code text := substring(to_jsonb(new)::text from 'refuse:([0-9A-Z]{5})');
    begin
      if code is not null then
        perform nextval('whatsapp.refusals');
        raise exception 'refused' using errcode = code;
      end if;
      return new;
    end $$`);
  for (const table of TABLES) {
    await database.query(
      `create trigger refuse before insert or update on whatsapp.${table} for each row execute function whatsapp.refuse()`,
    );
  }
}

/** How often it did since this was last asked. */
export async function refusals(database: TestDatabase): Promise<number> {
  const [row] = await database.query<{ n: string }>(
    `select nextval('whatsapp.refusals') - 1 as n, setval('whatsapp.refusals', 1, false)`,
  );
  return Number(row!.n);
}

/** Whether it does. */
export async function refusal(database: TestDatabase, state: 'on' | 'off'): Promise<void> {
  const act = state === 'on' ? 'enable' : 'disable';
  for (const table of TABLES) await database.query(`alter table whatsapp.${table} ${act} trigger refuse`);
}
