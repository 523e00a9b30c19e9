import { ConfigError } from '../config/load.ts';
import type { ContactsQuery } from '../crm/contacts.ts';
import type { LinkReport } from '../crm/linking.ts';
import type { Replica } from '../replica/replica.ts';
import { forgettingOf, requireErasureKey } from '../replica/writing.ts';
import type { Db } from '../store/database.ts';
import { erasedPhones } from '../store/suppressions.ts';

/**
 * Links the CRM's contacts as the settings say. What is known of phone numbers is loaded with the first use: it
 * takes some 20 MB, which a daemon without a CRM has no need of.
 * @returns undefined where another process is linking now.
 * @throws ConfigError without CRM_CONTACTS_QUERY; ReplicaError where the query fails.
 */
export async function linkFromSettings(
  replica: Replica,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<LinkReport | undefined> {
  const contacts = contactsOf(replica);
  if (contacts === undefined) {
    throw new ConfigError([
      'CRM_CONTACTS_QUERY is not set: give a query such as select id, phone from contacts (docs/crm.md)',
    ]);
  }
  await requireErasureKey(replica);
  const { linkContacts } = await import('../crm/linking.ts');
  const { settings, maintenance } = replica;
  const { key } = forgettingOf(settings);
  const order = {
    db: maintenance,
    schema: settings.WA_REPLICA_SCHEMA,
    contacts,
    country: settings.CRM_DEFAULT_COUNTRY,
    erased: async (db: Db, phones: readonly string[]) =>
      key === undefined ? new Set<string>() : await erasedPhones(db, key, phones),
    dryRun,
  };
  return await linkContacts(order, signal);
}

/** Where the CRM's contacts are; undefined where there is no CRM. */
export function contactsOf({ settings, databaseUrl }: Replica): ContactsQuery | undefined {
  const { CRM_CONTACTS_QUERY: query, CRM_DATABASE_URL: own } = settings;
  return query === undefined ? undefined : { url: own ?? databaseUrl, ownDatabase: own !== undefined, query };
}
