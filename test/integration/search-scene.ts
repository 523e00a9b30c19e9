/** Messages to be searched: a few of known people, and a backlog in which most is the same. */
import { beforeAll } from 'vitest';
import { searchMessages } from '../../src/store/search.ts';
import { SCHEMA, type TestDatabase, useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';

export const ANNA = '4915112345678@s.whatsapp.net';
const ANNA_LID = '55@lid';
const BERT = '4930123456@s.whatsapp.net';

/** An instant, in minutes since all began. */
export const at = (minutes: number) => new Date(Date.UTC(2026, 9, 1) + minutes * 60_000).toISOString();

export class SearchScene {
  readonly database: TestDatabase = useTestDatabase({ migrated: true });
  #seq = 0;

  /** The next minute's, of Anna's. */
  message = (id: string, body: string | null, more: object = {}) => ({
    message_id: id,
    conversation_id: `chat-${ANNA}`,
    chat_jid: ANNA,
    sender_jid: ANNA,
    direction: 'incoming',
    body,
    sent_at: at(this.#seq),
    seq: ++this.#seq,
    ...more,
  });

  write = (connection: string, messages: readonly object[], more: object = {}) =>
    applyAnswer(this.database.db, { cursor: ++this.#seq + 10_000, messages, ...more }, {}, connection);

  /** The messages that are found. */
  ids = async (query: string, more: object = {}) => {
    const found = await searchMessages(this.database.db, SCHEMA, { query, max: 50, ...more });
    return found.map(({ message_id }) => message_id);
  };

  /** For the file that calls this. */
  static use(): SearchScene {
    const scene = new SearchScene();
    beforeAll(async () => {
      const contacts = [
        {
          person_id: 'anna',
          display_name: 'Anna',
          phone_e164: '+4915112345678',
          phone_jid: ANNA,
          lid_jid: ANNA_LID,
        },
        { person_id: 'bert', display_name: 'Bert', phone_e164: '+4930123456', phone_jid: BERT },
      ];
      const conversations = [
        { conversation_id: `chat-${ANNA}`, chat_jid: ANNA, kind: 'direct', direct_person_id: 'anna', seq: 1 },
        { conversation_id: 'group', chat_jid: '1@g.us', kind: 'group', subject: 'Friends', seq: 1 },
      ];
      await scene.write(
        'a',
        [
          scene.message('first', 'The Invoice of October'),
          scene.message('second', 'no invoice, a reminder of an invoice'),
          scene.message('third', 'Rechnungen: RE-2026-77, see https://example.com/re'),
          scene.message('ours', 'your invoice is paid', {
            direction: 'outgoing',
            sender_jid: '49@s.whatsapp.net',
          }),
          scene.message('lid', 'group invoice', {
            conversation_id: 'group',
            chat_jid: '1@g.us',
            sender_jid: ANNA_LID,
          }),
          scene.message('bert', 'invoice of Bert', {
            conversation_id: 'group',
            chat_jid: '1@g.us',
            sender_jid: BERT,
          }),
          scene.message('picture', null, { content_type: 'image' }),
          scene.message('timeless', 'invoice without a time', { sent_at: null }),
          scene.message('odd', 'हिन्दी: Café-latte 12.50, call +4915199 or write to Anna@example.org'),
        ],
        { contacts, conversations },
      );
      await scene.write('b', [scene.message('other', 'INVOICE on another number')], {
        contacts,
        conversations,
      });
      // Far more than are walked through, so that the index is asked.
      await scene.database.query(`insert into whatsapp.messages (connection_id, message_id, chat_jid, sender_jid, direction, body, sent_at)
        select 'bulk', 'n' || n, '9@s.whatsapp.net', '9@s.whatsapp.net', 'incoming',
          'filler of a backlog' || case when n % 500 = 0 then ' seldom' else '' end || case when n = 1 then ' oldest' else '' end,
          timestamptz '2020-01-01' + n * interval '1 hour' from generate_series(1, 6000) n`);
      await scene.database.query(`insert into whatsapp.sync_state (connection_id) values ('bulk')`);
      await scene.database.query(
        `insert into whatsapp.jids (connection_id, jid, phone_e164) values ('bulk', '9@s.whatsapp.net', '+9123456')`,
      );
    });
    return scene;
  }
}
