import { type Kysely, sql } from 'kysely';
import { type ContactsQuery, readContacts } from '../../crm/contacts.ts';
import { codeOf, ReplicaError } from '../../errors/errors.ts';
import { indexStands, PARTS_INDEX, SEARCH_INDEX, type SearchKind } from '../../store/indexes.ts';
import type { Database } from '../../store/schema.ts';
import { NO_EXTENSION, trigramSchema } from '../../store/trigrams.ts';
import { type Finding, ok, problem, warning } from './finding.ts';

export interface CrmCheck {
  /** Undefined: there is no CRM. */
  readonly contacts: ContactsQuery | undefined;
  readonly country: string | undefined;
}

/** How long doctor waits for the first contacts, in milliseconds. */
const PATIENCE = 10_000;

/** Reads the first of the CRM's contacts, and links none. */
export async function checkCrm({ contacts, country }: CrmCheck): Promise<Finding[]> {
  if (contacts === undefined) return [];
  try {
    for await (const _ of readContacts(contacts, undefined, PATIENCE)) break;
  } catch (error) {
    const { message, hint } =
      error instanceof ReplicaError ? error : { message: codeOf(error), hint: undefined };
    return [problem(`crm: ${message}`, hint ?? 'try `wa-replica link --dry-run`')];
  }
  if (country !== undefined) return [ok('crm: CRM_CONTACTS_QUERY can be read')];
  return [
    warning(
      'crm: CRM_CONTACTS_QUERY can be read; numbers that are written without a country cannot',
      'set CRM_DEFAULT_COUNTRY, or give a column country, unless all begin with +',
    ),
  ];
}

/** Whether the search has its indexes.
 * @param search SEARCH. @returns nothing where there are no tables yet. */
export async function checkSearch(
  db: Kysely<Database>,
  schema: string,
  search: SearchKind,
): Promise<Finding[]> {
  const { rows } = await sql<{ there: boolean }>`
    select to_regclass(${`${schema}.messages`}) is not null as there`.execute(db);
  if (rows[0]?.there !== true) return [];
  const ofWords = ofIndex('the index', await indexStands(db, schema, SEARCH_INDEX), search, search !== 'off');
  const parts = await indexStands(db, schema, PARTS_INDEX);
  if (search === 'parts' && !parts && (await trigramSchema(db)) === undefined) {
    return [
      ...ofWords,
      warning('search: parts of words have no index: there is no pg_trgm', NO_EXTENSION.hint),
    ];
  }
  return [...ofWords, ...ofIndex('the index of parts of words', parts, search, search === 'parts')];
}

function ofIndex(name: string, indexed: boolean, search: SearchKind, wanted: boolean): Finding[] {
  if (indexed === wanted) return wanted ? [ok(`search: ${name} is there`)] : [];
  return [
    wanted
      ? warning(
          `search: ${name} is not there: every message is read for a search`,
          'let `run` build it (MIGRATE_ON_START=true), or run `wa-replica migrate`, as the owner of the tables; on many messages it takes minutes',
        )
      : warning(
          `search: SEARCH is ${search}, and ${name === 'the index' ? 'its index' : name} is there all the same`,
          'let `run` drop it (MIGRATE_ON_START=true), or run `wa-replica migrate`, as the owner of the tables',
        ),
  ];
}
