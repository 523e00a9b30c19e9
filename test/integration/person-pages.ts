/** Pages about one person, a chat with it and a group, each at the next cursor: for the tests of what is derived of them. */
import { beforeEach } from 'vitest';
import { TABLES } from '../../src/store/schema.ts';
import { type TestDatabase, useTestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';

export const LID = '491701234567890@lid';
export const PHONE = '4915112345678@s.whatsapp.net';
export const E164 = '+4915112345678';
export const message = (id: string, seq: number, fields: Record<string, unknown> = {}) => ({
  message_id: id,
  conversation_id: 'c1',
  chat_jid: LID,
  sender_jid: LID,
  sender_push_name: 'annie',
  is_from_me: false,
  sent_at: `2026-11-01T10:00:${String(seq).padStart(2, '0')}Z`,
  body: id,
  seq,
  ...fields,
});
export const direct = (seq: number, fields: Record<string, unknown> = {}) => ({
  conversation_id: 'c1',
  chat_jid: LID,
  kind: 'direct',
  direct_person_id: 'p1',
  last_message_at: '2026-11-01T10:00:01Z',
  seq,
  ...fields,
});
export const group = (seq: number, ...jids: (string | object)[]) => ({
  conversation_id: 'g1',
  chat_jid: '120363@g.us',
  kind: 'group',
  subject: 'Team',
  seq,
  participants: jids.map((jid) => (typeof jid === 'string' ? { participant_jid: jid } : jid)),
});

export class PersonPages {
  readonly database: TestDatabase = useTestDatabase({ migrated: true });
  #cursor = 0;

  page = (lists: Omit<Answer, 'cursor'>) =>
    applyAnswer(this.database.db, { cursor: ++this.#cursor, ...lists });

  rows = (sql: string) => this.database.query(sql);

  /** For the file that calls this; its tables are empty before each test. */
  static use(): PersonPages {
    const pages = new PersonPages();
    const tables = [...TABLES].filter((name) => !name.startsWith('kysely')).map((name) => `whatsapp.${name}`);
    beforeEach(async () => {
      await pages.database.query(`truncate ${tables.join(', ')}`);
      pages.#cursor = 0;
    });
    return pages;
  }
}
