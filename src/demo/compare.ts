import { type Kysely, sql } from 'kysely';
import { CONVERSATION, columnType, type Entity, entityOf, PARTICIPANT_FIELDS } from '../entities.ts';
import type { ConnectionId, Kind } from '../model.ts';
import { parseExact, type TruthRecord } from '../simulator/truth.ts';
import type { Database } from '../store/schema.ts';

/**
 * Compares the replica with what the simulated upstream holds, row by row and field by field. It reads times and
 * numbers by means of its own, not by those of the replication, so that a fault there cannot hide itself.
 */

export interface Comparison {
  readonly compared: Record<Kind, number>;
  /** Up to twenty, for a person to look at. */
  readonly differences: string[];
  different: number;
}

type Row = Record<string, unknown>;

const BATCH = 1000;

/** Compares one connection: every record of the truth is in the tables, as it is, and nothing else. */
export async function compareWithTruth(
  db: Kysely<Database>,
  connectionId: ConnectionId,
  truth: Iterable<TruthRecord>,
): Promise<Comparison> {
  const result: Comparison = {
    compared: { contact: 0, conversation: 0, message: 0 },
    differences: [],
    different: 0,
  };
  const pending: Record<Kind, TruthRecord[]> = { contact: [], conversation: [], message: [] };
  const flush = async (kind: Kind) => {
    const records = pending[kind].splice(0);
    if (records.length > 0) await compareBatch(db, connectionId, entityOf(kind), records, result);
  };
  for (const record of truth) {
    pending[record.kind].push(record);
    result.compared[record.kind]++;
    if (pending[record.kind].length === BATCH) await flush(record.kind);
  }
  for (const kind of Object.keys(pending) as Kind[]) {
    await flush(kind);
    const stored = await countRows(db, connectionId, entityOf(kind));
    if (stored !== result.compared[kind]) {
      differ(result, `${connectionId}: ${stored} ${kind}s stored, ${result.compared[kind]} true`);
    }
  }
  return result;
}

async function compareBatch(
  db: Kysely<Database>,
  connectionId: ConnectionId,
  entity: Entity,
  records: readonly TruthRecord[],
  result: Comparison,
): Promise<void> {
  const stored = await readRows(
    db,
    connectionId,
    entity,
    records.map((record) => record.id),
  );
  for (const { id, record } of records) {
    const row = stored.get(id);
    if (row === undefined) {
      differ(result, `${entity.kind} ${id} is missing`);
      continue;
    }
    const expected = expectedRow(entity, record);
    for (const [column, value] of Object.entries(expected)) {
      const [want, have] = [canonical(value), canonical(row[column] ?? null)];
      if (want !== have) differ(result, `${entity.kind} ${id}: ${column} is ${have}, not ${want}`);
    }
  }
}

function differ(result: Comparison, what: string): void {
  result.different++;
  if (result.differences.length < 20) result.differences.push(what);
}

/** The row that a record has to make. */
function expectedRow(entity: Entity, record: Row): Row {
  const row: Row = {};
  const extra: Row = {};
  for (const [field, type] of Object.entries(entity.fields)) {
    row[field] = type === 'time' ? micros(record[field]) : (record[field] ?? null);
  }
  for (const [field, value] of Object.entries(record)) {
    const own =
      field === entity.key || field === 'seq' || (entity === CONVERSATION && field === 'participants');
    if (!own && !(field in entity.fields)) extra[field] = value;
  }
  row.extra = Object.keys(extra).length === 0 ? null : extra;
  if (entity.version === 'seq') row.seq = String(record.seq);
  if (entity === CONVERSATION) {
    const participants = (record.participants ?? []) as Row[];
    const of = (p: Row) => [p.participant_jid, ...Object.keys(PARTICIPANT_FIELDS).map((f) => p[f] ?? null)];
    row.participants = participants.map(of).sort(byJid);
  }
  return row;
}

/** Microseconds since 1970 as text; null where the time is not set. */
function micros(value: unknown): string | null {
  if (typeof value !== 'string' || value === '' || value === '0001-01-01T00:00:00Z') return null;
  const [, seconds, fraction = '', zone] = /^(.{19})(?:\.(\d+))?(.+)$/.exec(value)!;
  const ms = BigInt(Date.parse(`${seconds}${zone}`));
  return (ms * 1000n + BigInt(fraction.padEnd(6, '0').slice(0, 6))).toString();
}

async function readRows(
  db: Kysely<Database>,
  connectionId: ConnectionId,
  entity: Entity,
  ids: readonly string[],
): Promise<Map<string, Row>> {
  const columns = Object.entries(entity.fields).map(([name, type]) => {
    if (type === 'time') return `(extract(epoch from t.${name}) * 1000000)::bigint::text as ${name}`;
    return columnType(type) === 'jsonb' ? `t.${name}::text as ${name}` : `t.${name}`;
  });
  const { rows } = await sql<Row>`
    select t.${sql.raw(entity.key)} as id, ${sql.raw(columns.join(', '))}, t.extra::text as extra,
      t.${sql.raw(entity.version)}::text as ${sql.raw(entity.version)}
    from ${sql.table(entity.table)} t
    where t.connection_id = ${connectionId} and t.${sql.raw(entity.key)} = any(${[...ids]}::text[])`.execute(
    db,
  );
  const found = new Map(rows.map((row) => [row.id as string, parseObjects(entity, row)]));
  if (entity === CONVERSATION) await addParticipants(db, connectionId, ids, found);
  return found;
}

function parseObjects(entity: Entity, row: Row): Row {
  const objects = [
    ...Object.keys(entity.fields).filter((field) => entity.fields[field] === 'object'),
    'extra',
  ];
  for (const column of objects) {
    if (typeof row[column] === 'string') row[column] = parseExact(row[column]);
  }
  return row;
}

async function addParticipants(
  db: Kysely<Database>,
  connectionId: ConnectionId,
  ids: readonly string[],
  found: Map<string, Row>,
): Promise<void> {
  const { rows } = await sql<Record<string, string | null>>`
    select conversation_id, participant_jid, ${sql.raw(Object.keys(PARTICIPANT_FIELDS).join(', '))}
    from ${sql.table('conversation_participants')}
    where connection_id = ${connectionId} and conversation_id = any(${[...ids]}::text[])`.execute(db);
  for (const row of found.values()) row.participants = [];
  for (const { conversation_id, participant_jid, ...fields } of rows) {
    const participants = found.get(conversation_id!)?.participants as unknown[] | undefined;
    participants?.push([participant_jid, ...Object.values(fields)]);
  }
  for (const row of found.values()) (row.participants as unknown[][]).sort(byJid);
}

function byJid(a: readonly unknown[], b: readonly unknown[]): number {
  return (a[0] as string) < (b[0] as string) ? -1 : 1;
}

async function countRows(db: Kysely<Database>, connectionId: ConnectionId, entity: Entity): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from ${sql.table(entity.table)}
    where connection_id = ${connectionId}`.execute(db);
  return rows[0]!.count;
}

/** JSON with sorted keys and exact integers, so that equal values are equal texts. */
function canonical(value: unknown): string {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, child]) => `${JSON.stringify(key)}:${canonical(child)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
