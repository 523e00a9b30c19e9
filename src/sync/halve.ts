import { sql, type Transaction } from 'kysely';
import { refusesData, sqlstate } from '../errors/errors.ts';
import type { Row } from '../model.ts';
import type { Database } from '../store/schema.ts';

/** What Postgres refuses, and with which SQLSTATE. */
export interface Refused<T> {
  readonly one: T;
  readonly code: string;
}

/**
 * Does `work` behind a savepoint.
 * @param keep false for a mere question: what was written is taken back in any case.
 * @returns the SQLSTATE where Postgres refuses the data; nothing is written then.
 * @throws every other error.
 */
export async function attempt(
  trx: Transaction<Database>,
  work: () => Promise<void>,
  keep = true,
): Promise<string | undefined> {
  await sql`savepoint attempt`.execute(trx);
  let code: string | undefined;
  try {
    await work();
  } catch (error) {
    if (!refusesData(error)) throw error;
    code = sqlstate(error)!;
  }
  if (code !== undefined || !keep) await sql`rollback to savepoint attempt`.execute(trx);
  await sql`release savepoint attempt`.execute(trx);
  return code;
}

/** Those for whose sake all of them are refused: each half on its own, down to single ones. */
export async function halve<T>(
  all: readonly T[],
  refuses: (some: readonly T[]) => Promise<string | undefined>,
): Promise<Refused<T>[]> {
  const code = await refuses(all);
  if (code === undefined) return [];
  if (all.length === 1) return [{ one: all[0]!, code }];
  const middle = all.length >> 1;
  const bad = await halve(all.slice(0, middle), refuses);
  for (const one of await halve(all.slice(middle), refuses)) bad.push(one);
  return bad;
}

/** The participants for whose sake Postgres refuses a conversation; none where it refuses it without any, too. */
export async function halveMembers(
  trx: Transaction<Database>,
  conversation: Row,
  put: (row: Row) => Promise<unknown>,
): Promise<Refused<Row>[]> {
  const refuses = (participants: readonly Row[]) =>
    attempt(trx, async () => void (await put({ ...conversation, participants })), false);
  const members = (conversation.participants ?? []) as readonly Row[];
  if (members.length === 0 || (await refuses([])) !== undefined) return [];
  return await halve(members, refuses);
}
