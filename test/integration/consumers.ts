/** The change feed as a consumer has it, by its functions in the database. */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { useTestDatabase } from '../support/database.ts';
import { applyAnswer } from '../support/pages.ts';

export interface Change {
  readonly connection_id: string;
  readonly change_no: string;
}

export type Client = Pick<pg.Pool, 'query'>;

export const read = async (client: Client, consumer: string, max = 500, lease = '1 minute') =>
  (await client.query<Change>('select * from whatsapp.read_changes($1, $2, $3)', [consumer, max, lease]))
    .rows;
export const ack = (client: Client, consumer: string, connection: string, no: number | string) =>
  client.query('select whatsapp.ack_changes($1, $2, $3)', [consumer, connection, no]);
export const names = (rows: readonly Change[]) => rows.map((row) => `${row.connection_id} ${row.change_no}`);
export const message = (id: number, seq: number) => ({
  message_id: `m${id}`,
  conversation_id: 'c',
  body: `${seq}`,
  seq,
});

/** A feed that nobody has read, before each test of the file that calls this, and sessions for its consumers. */
export function useFeed() {
  const database = useTestDatabase({ migrated: true });
  let pool: pg.Pool;
  beforeAll(() => {
    pool = new pg.Pool({ connectionString: database.url, max: 6 });
  });
  afterAll(async () => {
    await pool.end();
  });
  beforeEach(async () => {
    await database.query(`truncate whatsapp.changes, whatsapp.change_consumers, whatsapp.change_positions,
      whatsapp.sync_state, whatsapp.messages, whatsapp.contacts`);
  });
  return {
    database,
    get pool() {
      return pool;
    },
    /** Writes messages as a page that brings them. */
    page: (connection: string, cursor: number, ...ids: number[]) =>
      applyAnswer(database.db, { cursor, messages: ids.map((id) => message(id, cursor)) }, {}, connection),
  };
}
