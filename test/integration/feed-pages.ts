/** Pages, and what the change feed tells of them. */
import type { TestDatabase } from '../support/database.ts';
import { type Answer, applyAnswer } from '../support/pages.ts';

export const message = (seq: number, fields: Record<string, unknown> = {}) => ({
  message_id: 'm1',
  conversation_id: 'c1',
  sent_at: '2026-11-01T10:00:00Z',
  body: 'a',
  seq,
  ...fields,
});

/** A connection, to which answers are applied one after the other. */
export class Feed {
  readonly #database: TestDatabase;
  readonly #connection: string;
  #cursor = 0;

  constructor(database: TestDatabase, connection: string) {
    this.#database = database;
    this.#connection = connection;
  }

  page = async (answer: Omit<Answer, 'cursor'>, context = {}) =>
    await applyAnswer(this.#database.db, { cursor: ++this.#cursor, ...answer }, context, this.#connection);

  told = async (): Promise<string[]> => {
    const rows = await this.#database.query<Record<string, unknown>>(
      `select change_no, kind, record_id, op, changed_fields from whatsapp.changes where connection_id = $1 order by 1`,
      [this.#connection],
    );
    return rows.map((row) => {
      const fields = row.changed_fields as string[] | null;
      return `${row.change_no} ${row.kind} ${row.record_id} ${row.op}${fields ? ` ${fields.join()}` : ''}`;
    });
  };
}
