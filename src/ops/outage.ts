import { recognize, sqlstate } from '../errors/errors.ts';

/** SQLSTATEs of a table, a schema or a column that is not there, and of one that the role may not read. */
const WHY: Readonly<Record<string, string>> = {
  '42P01': "the schema is not this version's",
  '3F000': "the schema is not this version's",
  '42703': "the schema is not this version's",
  '42501': 'the role of DATABASE_URL lacks a privilege, see `wa-replica doctor`',
};

/**
 * Why the database did not tell what it was asked for.
 * @throws the error itself where Postgres has nothing to do with it: a fault of this program is told of as one.
 */
export function outageOf(error: unknown): string {
  if (recognize(error) === undefined) throw error;
  return WHY[sqlstate(error) ?? ''] ?? 'the database is out of reach';
}
