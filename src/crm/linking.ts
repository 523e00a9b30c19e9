import type { Kysely } from 'kysely';
import { ReplicaError } from '../errors/errors.ts';
import { type Link, type LinkTotals, linkTotals, mergeLinks, whileLinking } from '../store/crm-links.ts';
import type { Db } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import { type Contact, type ContactsQuery, readContacts } from './contacts.ts';
import { isCountry, otherForms, phonesIn } from './phones.ts';

export interface Linking {
  /** For what may take long. */
  readonly db: Kysely<Database>;
  readonly schema: string;
  readonly contacts: ContactsQuery;
  /** CRM_DEFAULT_COUNTRY. */
  readonly country: string | undefined;
  /** Of these numbers, those of people who were erased and not heard of since (R20): they are not linked. */
  readonly erased?: (db: Db, phones: readonly string[]) => Promise<ReadonlySet<string>>;
  /** Everything is done, counted, and rolled back. */
  readonly dryRun: boolean;
  /** Rows that the query may give; as `contacts.ts` has it where absent. */
  readonly mostRows?: number;
  /** How long it may take, in milliseconds; likewise. */
  readonly mostTime?: number;
}

export interface LinkReport extends LinkTotals {
  /** That the query gave. */
  readonly rows: number;
  readonly added: number;
  readonly removed: number;
  /** Rows without an id. */
  readonly nameless: number;
  /** Texts that are no number; `unreadableIds` are the contacts of the first of them. */
  readonly unreadable: number;
  readonly unreadableIds: readonly string[];
}

/** How many contacts are named of those that are ambiguous or unreadable. */
const NAMED = 20;
/** Longest id, in bytes; and rows of one id: beyond, the first column is something else. */
const LONGEST_ID = 1024;
const MOST_OF_ONE = 10_000;
/** Of what was typed, as many characters are kept. */
const RAW_KEPT = 100;

/**
 * Brings `crm_links` to what the query gives now, in one transaction: stretch by stretch of the ordered ids, so that
 * memory depends on neither the CRM nor the table.
 * @returns undefined where another process is linking now.
 * @throws ReplicaError where the query fails or gives what it should not; nothing has changed then.
 */
export async function linkContacts(linking: Linking, signal: AbortSignal): Promise<LinkReport | undefined> {
  const { db, schema, contacts, country, dryRun, mostRows, mostTime } = linking;
  return await whileLinking(db, schema, !dryRun, async (trx) => {
    const tally = { rows: 0, added: 0, removed: 0, nameless: 0, unreadable: 0 };
    const unreadableIds = new Set<string>();
    let after: string | undefined;
    // Of the last id there may be more rows in the next batch.
    let held: Contact[] = [];
    const merge = async (rows: readonly Contact[], upTo: string | undefined) => {
      const found = rows.flatMap((row) => linksOf(row, country, () => unreadable(row)));
      const gone = await linking.erased?.(trx, found.flatMap(formsOf));
      const links =
        gone === undefined ? found : found.filter((link) => !formsOf(link).some((phone) => gone.has(phone)));
      const { added, removed } = await mergeLinks(trx, { after, upTo }, links);
      tally.added += added;
      tally.removed += removed;
      after = upTo;
    };
    const unreadable = ({ id }: Contact) => {
      tally.unreadable++;
      if (unreadableIds.size < NAMED) unreadableIds.add(id!);
    };
    for await (const batch of readContacts(contacts, mostRows, mostTime)) {
      signal.throwIfAborted();
      tally.rows += batch.length;
      const named = batch.filter(({ id }) => id !== null);
      checkIds(named);
      tally.nameless += batch.length - named.length;
      const rows = held.concat(named);
      const last = rows.at(-1)?.id;
      held = rows.filter(({ id }) => id === last);
      checkOne(held);
      const done = rows.slice(0, rows.length - held.length);
      if (done.length > 0) await merge(done, done.at(-1)!.id!);
    }
    await merge(held, undefined);
    return { ...tally, ...(await linkTotals(trx, NAMED)), unreadableIds: [...unreadableIds] };
  });
}

/** A number in all of its forms: somebody was erased under the one that WhatsApp knows. */
function formsOf({ phone }: Link): string[] {
  return [phone, ...otherForms(phone)];
}

function* numbersOf({ phones, country }: Contact, home: string | undefined): Generator<[string, string[]]> {
  for (const text of phones) {
    const raw = text.trim();
    if (raw !== '') yield [raw, phonesIn(raw, country !== undefined && isCountry(country) ? country : home)];
  }
}

function linksOf(contact: Contact, home: string | undefined, onUnreadable: () => void): Link[] {
  const links: Link[] = [];
  for (const [text, numbers] of numbersOf(contact, home)) {
    if (numbers.length === 0) onUnreadable();
    for (const phone of numbers) {
      const link = { crmId: contact.id!, raw: text.slice(0, RAW_KEPT) };
      links.push({ ...link, phone, onlyKnown: false });
      for (const other of otherForms(phone)) links.push({ ...link, phone: other, onlyKnown: true });
    }
  }
  return links;
}

/** A query whose first column is something else than an id. */
function checkIds(rows: readonly Contact[]): void {
  if (rows.some(({ id }) => Buffer.byteLength(id!) > LONGEST_ID)) {
    throw notAnId(`gives an id over ${LONGEST_ID} bytes`);
  }
}

function checkOne(ofOne: readonly Contact[]): void {
  if (ofOne.length > MOST_OF_ONE) throw notAnId(`gives more than ${MOST_OF_ONE} rows of one id`);
}

function notAnId(what: string): ReplicaError {
  return new ReplicaError('crm', {
    where: `CRM_CONTACTS_QUERY ${what}`,
    hint: 'its first column has to be the id of the contact',
  });
}
