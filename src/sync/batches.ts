import type { Entity } from '../entities.ts';
import type { Kind, Row } from '../model.ts';

/** Rows of one kind whose ids are all different, to be written by one statement. */
export interface Batch {
  readonly kind: Kind;
  /** Messages whose fields are merged into the stored row instead of replacing it (R7). */
  readonly partial: boolean;
  readonly rows: readonly Row[];
  /** Per row, the bytes it came as: asked for only where Postgres refuses a row. */
  readonly json: (row: Row) => Buffer;
}

/** A message that tells neither its conversation nor its time only adds to what is known of it (R7). */
function isPartial(entity: Entity, row: Row): boolean {
  return entity.kind === 'message' && row.conversation_id === undefined && row.sent_at === undefined;
}

/** Orders the rows of an id by version, then by place (R3), and spreads them over batches, so that a batch has
 * every id once and the last one written is the newest. What it replaces on the way counts as replaced. */
export function toBatches(entity: Entity, rows: readonly Row[], json: (row: Row) => Buffer): Batch[] {
  const byId = new Map<string, Row[]>();
  let repeated = false;
  for (const row of rows) {
    const id = row[entity.key] as string;
    const others = byId.get(id);
    if (others === undefined) byId.set(id, [row]);
    else {
      others.push(row);
      repeated = true;
    }
  }
  const layers: Row[][] = [];
  if (!repeated) layers.push([...rows]);
  else {
    for (const same of byId.values()) {
      same.sort((a, b) => compareVersions(a[entity.version] as string, b[entity.version] as string));
      for (const [depth, row] of same.entries()) {
        layers[depth] ??= [];
        layers[depth].push(row);
      }
    }
  }
  const batches: Batch[] = [];
  for (const layer of layers) {
    const partial = layer.filter((row) => isPartial(entity, row));
    const whole = partial.length === 0 ? layer : layer.filter((row) => !isPartial(entity, row));
    if (whole.length > 0) batches.push({ kind: entity.kind, partial: false, rows: whole, json });
    if (partial.length > 0) batches.push({ kind: entity.kind, partial: true, rows: partial, json });
  }
  return batches;
}

function compareVersions(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
