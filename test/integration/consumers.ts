/** The change feed as a consumer has it, by its functions in the database. */
import type pg from 'pg';

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
