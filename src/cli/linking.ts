import { ConfigError } from '../config/load.ts';
import type { LinkReport } from '../crm/linking.ts';
import { forgettingOf, type Replica, requireErasureKey } from '../replica.ts';
import type { Db } from '../store/database.ts';
import { erasedPhones } from '../store/suppressions.ts';

/**
 * Links the CRM's contacts as the settings say. The phone numbers' metadata are loaded with the first use: they are a
 * fifth of what a daemon without a CRM needs.
 * @returns undefined where another process is linking now.
 * @throws ConfigError without CRM_CONTACTS_QUERY; ReplicaError where the query fails.
 */
export async function linkFromSettings(
  replica: Replica,
  dryRun: boolean,
  signal: AbortSignal,
): Promise<LinkReport | undefined> {
  const { settings, databaseUrl, maintenance } = replica;
  const { CRM_CONTACTS_QUERY: query, CRM_DATABASE_URL: own } = settings;
  if (query === undefined) {
    throw new ConfigError([
      'CRM_CONTACTS_QUERY is not set: give a query such as select id, phone from contacts (docs/crm.md)',
    ]);
  }
  await requireErasureKey(replica);
  const { key } = forgettingOf(settings);
  const { linkContacts } = await import('../crm/linking.ts');
  const order = {
    db: maintenance,
    schema: settings.WA_REPLICA_SCHEMA,
    contacts: { url: own ?? databaseUrl, ownDatabase: own !== undefined, query },
    country: settings.CRM_DEFAULT_COUNTRY,
    erased: async (db: Db, phones: readonly string[]) =>
      key === undefined ? new Set<string>() : await erasedPhones(db, key, phones),
    dryRun,
  };
  return await linkContacts(order, signal);
}
