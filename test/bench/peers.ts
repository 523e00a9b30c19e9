import { type BenchDatabase, SCHEMA } from './postgres.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** What the peers' ways of writing have in common: the same rows, in memory beforehand, into the same table. */

export interface PeerRows {
  readonly columns: readonly string[];
  /** Every value as text; null is null. */
  readonly rows: readonly (readonly (string | null)[])[];
}

/** The upstream's columns; what the replica adds has defaults. */
const OURS = ['numbering', 'first_synced_at', 'synced_at'];

/** Reads the first rows that a replica has written, with the columns that any replica would have. */
export async function peerRows(database: BenchDatabase, most: number): Promise<PeerRows> {
  const names = await database.query<{ name: string }>(
    `select column_name as name from information_schema.columns
      where table_schema = $1 and table_name = 'messages' and column_name <> all ($2) order by ordinal_position`,
    [SCHEMA, OURS],
  );
  const columns = names.map(({ name }) => name);
  const texts = columns.map((name) => `${name}::text as ${name}`).join(', ');
  const found = await database.query<Record<string, string | null>>(
    `select ${texts} from ${SCHEMA}.messages order by ctid limit $1`,
    [most],
  );
  return { columns, rows: found.map((row) => columns.map((name) => row[name] ?? null)) };
}

/** An upsert of one row by "newest wins", with a parameter per column. */
export function upsertOf({ columns }: PeerRows): string {
  const set = columns.slice(2).map((name) => `${name} = excluded.${name}`);
  return `insert into ${SCHEMA}.messages as t (${columns.join(', ')})
    values (${columns.map((_, i) => `$${i + 1}`).join(', ')})
    on conflict (connection_id, message_id) do update set ${set.join(', ')} where t.seq < excluded.seq`;
}

/** A way of writing, connected. */
export interface Peer {
  /** Writes all rows. */
  write(): Promise<void>;
  close(): Promise<void>;
}

/** Times a way of writing into an empty table; it is connected before the clock starts. */
export async function timePeer(
  { postgres }: Stage,
  { rows }: PeerRows,
  connect: (url: string) => Promise<Peer>,
): Promise<Sample> {
  const database = await postgres.createDatabase();
  try {
    const peer = await connect(database.url);
    const node = process.cpuUsage();
    const from = postgres.cpu();
    const startedAt = performance.now();
    await peer.write();
    const seconds = (performance.now() - startedAt) / 1000;
    const { user, system } = process.cpuUsage(node);
    const cpu = postgres.cpu() - from;
    await peer.close();
    const [row] = await database.query<{ n: number }>(
      `select count(*)::integer as n from ${SCHEMA}.messages`,
    );
    if (row!.n !== rows.length) throw new Error(`wrote ${row!.n} rows, not ${rows.length}`);
    const details = { seconds, 'Node CPU s': (user + system) / 1e6, 'Postgres CPU s': cpu };
    return { value: rows.length / seconds, details };
  } finally {
    await database.drop();
  }
}
