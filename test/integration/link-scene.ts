/** A CRM's contacts in a database of their own, and two people whom WhatsApp knows, one of them on two connections. */
import { beforeAll, beforeEach } from 'vitest';
import { type Linking, type LinkReport, linkContacts } from '../../src/crm/linking.ts';
import { SCHEMA, type TestDatabase, useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';

export const NEVER = new AbortController().signal;

export class LinkScene {
  readonly database: TestDatabase = useTestDatabase({ migrated: true });
  /** The CRM's. */
  readonly crm: TestDatabase = useTestDatabase();

  link = async (
    query = 'select * from contacts',
    more: Partial<Linking> = {},
    signal = NEVER,
  ): Promise<LinkReport | undefined> => {
    const contacts = { url: this.crm.url, ownDatabase: true, query };
    const order = { db: this.database.db, schema: SCHEMA, contacts, country: 'DE', dryRun: false, ...more };
    return await linkContacts(order, signal);
  };

  /** Adds a contact. */
  contact = (
    id: string | null,
    phone: string | null,
    mobile: string | null = null,
    country: string | null = null,
  ) => this.crm.query('insert into contacts values ($1, $2, $3, $4)', [id, phone, mobile, country]);

  links = () =>
    this.database.query(
      `select crm_id, phone_e164, raw_phone from whatsapp.crm_links order by crm_id, phone_e164`,
    );

  /** For the file that calls this. */
  static use(): LinkScene {
    const scene = new LinkScene();
    const { database, crm } = scene;
    beforeAll(async () => {
      // Ordered as people do it, which is not by bytes.
      await crm.query(
        'create table contacts (id text collate "und-x-icu", phone text, mobile text, country text)',
      );
      for (const [connection, jid] of [
        ['conn_a', '4915112345678@s.whatsapp.net'],
        ['conn_b', '4915112345678@s.whatsapp.net'],
        ['conn_a', '551187654321@s.whatsapp.net'],
      ] as const) {
        const phone = `+${jid.split('@')[0]}`;
        await applyAnswer(
          database.db,
          {
            cursor: phone.length + (connection === 'conn_a' ? 0 : 5),
            contacts: [
              {
                person_id: `p${phone}`,
                phone_e164: phone,
                phone_jid: jid,
                lid_jid: `9${phone.slice(1, 8)}@lid`,
              },
            ],
          },
          {},
          connection,
        );
      }
    });
    beforeEach(async () => {
      await database.query('truncate whatsapp.crm_links');
      await crm.query('truncate contacts');
    });
    return scene;
  }
}
