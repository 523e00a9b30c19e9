import { type Kysely, sql } from 'kysely';
import type { Db } from './database.ts';
import { strayFunctions, turnHome } from './functions.ts';
import { identitiesBehind, moveOn } from './identities.ts';
import type { Database } from './schema.ts';
import { inTransaction } from './transaction.ts';

/** What copying or renaming has left of a schema whose rows are all there. */
export interface Leftover {
  readonly what: string;
  /** Whether this role may mend it. */
  readonly may: boolean;
  readonly mend: (db: Db) => Promise<void>;
}

/** What is to be mended, as far as this role may look. */
export async function leftovers(db: Db, schema: string): Promise<Leftover[]> {
  const found: Leftover[] = [];
  const strays = await strayFunctions(db, schema);
  if (strays.length > 0) {
    const names = [...new Set(strays.map(({ name }) => name))].join(', ');
    found.push({
      what: `functions look into the schema ${strays[0]!.looksInto}: ${names}`,
      may: strays.every(({ may }) => may),
      mend: async (trx) => {
        for (const stray of strays) await turnHome(trx, schema, stray);
      },
    });
  }
  for (const behind of await identitiesBehind(db, schema)) {
    found.push({
      what: `the next number of ${behind.table} is not above those of its rows`,
      may: behind.may,
      mend: (trx) => moveOn(trx, behind),
    });
  }
  return found;
}

/**
 * Mends what this role may. Of several processes one does: another would set a number back that was drawn since.
 * @returns what it was.
 */
export async function mendLeftovers(db: Kysely<Database>, schema: string): Promise<string[]> {
  if (!(await leftovers(db, schema)).some(({ may }) => may)) return [];
  return await inTransaction(db, { idleTimeout: 60_000, asDefault: true }, async (trx) => {
    await sql`select pg_advisory_xact_lock(hashtext('wa_replica mends'), hashtext(${schema}))`.execute(trx);
    const mended: string[] = [];
    for (const { what, may, mend } of await leftovers(trx, schema)) {
      if (!may) continue;
      await mend(trx);
      mended.push(what);
    }
    return mended;
  });
}
