import type pg from 'pg';
import { codeOf, ReplicaError } from '../errors/errors.ts';
import { remedy } from '../errors/remedies.ts';
import { PgClient } from '../store/client.ts';

/** Where and how the CRM's contacts are asked for. */
export interface ContactsQuery {
  /** Where it runs; undefined for libpq's variables. */
  readonly url: string | undefined;
  /** Whether the database is one of its own (CRM_DATABASE_URL), for the remedies. */
  readonly ownDatabase: boolean;
  /** CRM_CONTACTS_QUERY. */
  readonly query: string;
}

/** A row of the query. */
export interface Contact {
  /** Null where the row has none. */
  readonly id: string | null;
  readonly phones: readonly string[];
  /** What its numbers without a country belong to, where the query says so. */
  readonly country: string | undefined;
}

/** Rows that are read at a time. */
const BATCH = 1_000;
/** Rows that a query may give: beyond, it is a mistake more likely than an address book. */
const MOST_ROWS = 1_000_000;
/** How long the query may take, all together, in milliseconds. */
const MOST_TIME = 120_000;
const CONNECT_TIMEOUT = 10_000;

/** The name of the column that says the country; every other one after the first holds numbers. */
const COUNTRY = 'country';

/**
 * The contacts, in the order of their ids by bytes, some at a time: read through a cursor, in a transaction that only
 * reads.
 * @throws ReplicaError `crm`, with the remedy; never with a value.
 */
export async function* readContacts(
  { url, ownDatabase, query }: ContactsQuery,
  mostRows = MOST_ROWS,
  mostTime = MOST_TIME,
): AsyncGenerator<readonly Contact[]> {
  const client = new PgClient({
    ...(url === undefined ? {} : { connectionString: url }),
    application_name: 'wa-replica link',
    connectionTimeoutMillis: CONNECT_TIMEOUT,
    // Postgres ends what takes too long; this is for a network that swallows everything.
    query_timeout: mostTime + CONNECT_TIMEOUT,
  });
  // Of a connection that is lost the next statement tells.
  client.on('error', () => {});
  // One statement: the extended protocol takes no more, whatever a query holds.
  const one = (text: string) => {
    const config: pg.QueryArrayConfig & { queryMode: 'extended' } = {
      text,
      rowMode: 'array',
      queryMode: 'extended',
    };
    return client.query<(string | null)[]>(config);
  };
  const until = performance.now() + mostTime;
  try {
    await client.connect();
    await client.query(`begin transaction read only; set local statement_timeout = ${mostTime}`);
    const columns = (await one(`select * from (${query}\n) contacts limit 0`)).fields.map(({ name }) => name);
    const place = columns.findIndex((name, at) => at > 0 && name.toLowerCase() === COUNTRY);
    if (columns.length < (place === -1 ? 2 : 3)) {
      throw new ReplicaError('crm', {
        where: 'CRM_CONTACTS_QUERY gives no number',
        hint: 'the first column is the id of the contact, the others are numbers, but for one that is called country',
      });
    }
    const names = columns.map((_, at) => `c${at}`).join(', ');
    const texts = columns.map((_, at) => `c${at}::text`).join(', ');
    // By bytes, as crm_links has them: so that what was linked and is not there any more is seen in passing. By those
    // of UTF-8, whatever the database has; one of SQL_ASCII does not know what it has.
    await one(`declare contacts no scroll cursor for select ${texts} from (${query}\n) contacts (${names})
      order by convert_to(c0::text, case getdatabaseencoding() when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end)`);
    for (let rows = 0; ; ) {
      if (performance.now() > until) throw tooLong();
      const { rows: read } = await one(`fetch ${BATCH} from contacts`);
      if (read.length === 0) break;
      rows += read.length;
      if (rows > mostRows) {
        throw new ReplicaError('crm', {
          where: `CRM_CONTACTS_QUERY gives more than ${mostRows} rows: nothing is linked anew`,
          hint: 'narrow it with a where, to the contacts that have a number',
        });
      }
      yield read.map((row) => contactOf(row, place));
    }
  } catch (error) {
    throw failure(error, ownDatabase, mostTime);
  } finally {
    await client.end().catch(() => {});
  }
}

function contactOf(row: readonly (string | null)[], country: number): Contact {
  return {
    id: row[0] ?? null,
    phones: row.filter((_, at) => at > 0 && at !== country).filter((text) => text !== null),
    country: country === -1 ? undefined : (row[country] ?? undefined),
  };
}

const tooLong = () => Object.assign(new Error('too long'), { code: '57014' });

const HINTS: Readonly<Record<string, string>> = {
  '42601': 'it is no SQL that can be read from: try it in psql as select * from (…) contacts',
  '42P01':
    'there is no such table: name its schema too, and check in which database it is (CRM_DATABASE_URL)',
  '42703': 'there is no such column',
  '42501': 'the role lacks a privilege: grant select on the tables of the query',
  '25006': 'it writes, and is run for reading only',
};

function failure(error: unknown, ownDatabase: boolean, mostTime: number): ReplicaError {
  if (error instanceof ReplicaError) return error;
  const code = codeOf(error);
  const known = remedy('database', code);
  const hint =
    code === '57014'
      ? `it takes more than ${mostTime / 1000} s: narrow it, or make it quicker`
      : (HINTS[code] ?? (ownDatabase ? known?.replaceAll('DATABASE_URL', 'CRM_DATABASE_URL') : known));
  return new ReplicaError('crm', {
    where: 'running CRM_CONTACTS_QUERY',
    code,
    hint: hint ?? 'try it in psql, with the role that it is run with',
  });
}
