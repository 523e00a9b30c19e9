import { sql, type Transaction } from 'kysely';
import { type Entity, entityOf } from '../entities.ts';
import { refusesData, sqlstate } from '../errors.ts';
import { cutBytes } from '../lib/text.ts';
import { addTally, emptyTally, type Kind, type Reject, type Row, type Tally } from '../model.ts';
import { supersede } from '../store/quarantine.ts';
import type { Database } from '../store/schema.ts';
import { type UpsertTarget, upsert } from '../store/upsert.ts';
import type { Batch } from './batches.ts';
import { MAX_RECORD_ID_BYTES } from './fields.ts';

export interface WriteOptions {
  /** Each statement behind a savepoint, so that a record that Postgres refuses can be found (R9). */
  readonly carefully: boolean;
}

export interface Written {
  readonly tally: Record<Kind, Tally>;
  /** What Postgres refused. */
  readonly refused: Reject[];
  /** What it took, by batch. */
  readonly good: { readonly entity: Entity; readonly rows: readonly Row[] }[];
}

/**
 * Writes batches in their order, one statement each, inside the caller's transaction. The caller holds the lock of
 * the connection's state row. Shared by the page's apply and by whoever else writes records (R22).
 */
export async function write(
  trx: Transaction<Database>,
  batches: readonly Batch[],
  target: UpsertTarget,
  { carefully }: WriteOptions,
): Promise<Written> {
  const tally = { conversation: emptyTally(), contact: emptyTally(), message: emptyTally() };
  const refused: Reject[] = [];
  const good: Written['good'] = [];
  for (const batch of batches) {
    const entity = entityOf(batch.kind);
    const put = async (rows: readonly Row[]) => {
      addTally(tally[batch.kind], await upsert(trx, entity, rows, target, batch.partial));
    };
    const bad = carefully ? await halve(trx, batch.rows, put) : await putAll(batch.rows, put);
    for (const { row, code } of bad) refused.push(rejectOf(entity, batch, row, code));
    const rows =
      bad.length === 0 ? batch.rows : batch.rows.filter((row) => !bad.some((one) => one.row === row));
    good.push({ entity, rows });
  }
  return { tally, refused, good };
}

/** Resolves what was quarantined of records that are good now; after the page's own rejects were put aside. */
export async function resolveSuperseded(
  trx: Transaction<Database>,
  { good }: Written,
  { connectionId, numbering }: UpsertTarget,
): Promise<void> {
  for (const { entity, rows } of good) {
    const records = rows.map((row) => ({
      id: row[entity.key] as string,
      version: row[entity.version] as string,
      members: Array.isArray(row.participants),
    }));
    if (records.length > 0) await supersede(trx, entity.kind, records, connectionId, numbering);
  }
}

/** Whether anything was written. */
export function hasChanged(tally: Readonly<Record<Kind, Tally>>): boolean {
  return Object.values(tally).some((counts) => counts.inserted + counts.updated + counts.amended > 0);
}

type Put = (rows: readonly Row[]) => Promise<void>;

async function putAll(rows: readonly Row[], put: Put): Promise<BadRow[]> {
  await put(rows);
  return [];
}

interface BadRow {
  readonly row: Row;
  /** SQLSTATE. */
  readonly code: string;
}

/** Puts the rows; where Postgres refuses the data, each half on its own, down to the rows that it refuses. */
async function halve(trx: Transaction<Database>, rows: readonly Row[], put: Put): Promise<BadRow[]> {
  await sql`savepoint halving`.execute(trx);
  try {
    await put(rows);
    await sql`release savepoint halving`.execute(trx);
    return [];
  } catch (error) {
    if (!refusesData(error)) throw error;
    await sql`rollback to savepoint halving`.execute(trx);
    await sql`release savepoint halving`.execute(trx);
    if (rows.length === 1) return [{ row: rows[0]!, code: sqlstate(error)! }];
    const middle = rows.length >> 1;
    const bad = await halve(trx, rows.slice(0, middle), put);
    bad.push(...(await halve(trx, rows.slice(middle), put)));
    return bad;
  }
}

function rejectOf(entity: Entity, batch: Batch, row: Row, code: string): Reject {
  return {
    kind: entity.kind,
    recordId: cutBytes(row[entity.key] as string, MAX_RECORD_ID_BYTES),
    version: row[entity.version] as string,
    json: batch.json(row),
    code,
    reason: `Postgres refuses a value of it (SQLSTATE ${code})`,
  };
}
