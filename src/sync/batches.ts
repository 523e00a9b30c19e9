import type { Entity } from '../entities.ts';
import type { Kind, Row } from '../model.ts';
import type { EncodedRows } from '../store/recordset.ts';

/** Rows of one kind whose ids are all different, to be written by one statement. */
export interface Batch {
  readonly kind: Kind;
  /** Messages whose fields are merged into the stored row instead of replacing it (R7). */
  readonly partial: boolean;
  readonly rows: readonly Row[];
  /** All rows, encoded already. */
  readonly encoded?: EncodedRows;
  /** The oldest of its messages by {@link dateOf}, in milliseconds since 1970, cut to the second; undefined where one has no date. */
  readonly oldest?: number | undefined;
  /** Per row, the bytes it came as, those of the last one where several records made it: asked for only where Postgres
   * refuses a row. */
  readonly json: (row: Row) => Buffer;
  /** Of a row that several records made, these, one by one and in order: for where Postgres refuses the row. */
  readonly parts?: ReadonlyMap<Row, readonly Batch[]> | undefined;
}

/** A message that tells neither its conversation nor its time only adds to what is known of it (R7). */
function isPartial(entity: Entity, row: Row): boolean {
  return entity.kind === 'message' && row.conversation_id === undefined && row.sent_at === undefined;
}

/** Orders the rows of an id by version, then by place (R3), and spreads them over batches, so that a batch has
 * every id once and the last one written is the newest. What it replaces on the way counts as replaced. Records of
 * one version are one row: written one after the other, a replay of the page would write them all again (R2). */
export function toBatches(entity: Entity, rows: readonly Row[], json: (row: Row) => Buffer): Batch[] {
  const idOf = (row: Row) => row[entity.key];
  const versionOf = (row: Row) => row[entity.version] as string;
  const layers: Row[][] = [];
  const parts = new Map<Row, readonly Batch[]>();
  if (new Set(rows.map(idOf)).size === rows.length) layers.push([...rows]);
  else {
    for (const same of Map.groupBy(rows, idOf).values()) {
      same.sort((a, b) => compareVersions(versionOf(a), versionOf(b)));
      for (const [depth, equals] of [...Map.groupBy(same, versionOf).values()].entries()) {
        const row = equals.reduce((earlier, later) => fold(entity, earlier, later));
        if (equals.length > 1)
          parts.set(
            row,
            equals.map((one) => batchOf(entity, [one], json)),
          );
        layers[depth] ??= [];
        layers[depth].push(row);
      }
    }
  }
  const lastJson = (row: Row) => json(parts.get(row)?.at(-1)?.rows[0] ?? row);
  const batches: Batch[] = [];
  for (const layer of layers) {
    const partial = layer.filter((row) => isPartial(entity, row));
    const whole = partial.length === 0 ? layer : layer.filter((row) => !isPartial(entity, row));
    for (const rows of [whole, partial]) {
      if (rows.length === 0) continue;
      const batch = batchOf(entity, rows, json);
      batches.push(parts.size === 0 ? batch : { ...batch, parts, json: lastJson });
    }
  }
  return batches;
}

/** How many partial records a batch holds, those among them that became part of a row with others. */
export function partialsIn({ partial, rows, parts }: Batch): number {
  if (parts === undefined) return partial ? rows.length : 0;
  const records = rows.map((row) => parts.get(row)?.filter((part) => part.partial).length ?? Number(partial));
  return records.reduce((sum, count) => sum + count, 0);
}

function batchOf(entity: Entity, rows: readonly Row[], json: Batch['json']): Batch {
  return { kind: entity.kind, partial: isPartial(entity, rows[0]!), rows, json };
}

/** What two records of one version come to: the later one counts (R3), but what it says nothing of stays, as it
 * does in the tables: a partial record's other fields, and a membership that did not come (R7). */
function fold(entity: Entity, earlier: Row, later: Row): Row {
  if (isPartial(entity, later)) {
    const both = earlier.extra !== undefined && later.extra !== undefined;
    return {
      ...earlier,
      ...told(later),
      ...(both && { extra: { ...(earlier.extra as object), ...(later.extra as object) } }),
    };
  }
  return later.participants === undefined ? { ...later, participants: earlier.participants } : later;
}

/** A row without what it does not tell. */
function told(row: Row): Row {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined));
}

function compareVersions(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
