import type { Entity } from '../entities.ts';
import type { Kind, Reject, Row } from '../model.ts';
import { UNVERSIONED } from '../store/comparison.ts';
import type { Batch } from '../sync/batches.ts';
import { normaliseRecords } from '../sync/normalise.ts';
import type { List } from '../upstream/lists.ts';

/** A record of one of the upstream's lists, checked and ready to be compared or written. */
export interface Listed {
  readonly id: string;
  readonly row: Row;
  /** It tells only some fields (R7). */
  readonly partial: boolean;
  /** Of a conversation: members of it are left out, which cannot be stored. */
  readonly lacksMembers: boolean;
  /** The bytes it came as. */
  readonly json: () => Buffer;
}

export interface ListedRecords {
  /** Each id once: the newest version of it in the list. */
  readonly good: readonly Listed[];
  /** What cannot be stored. Participants are left out: their conversation is compared without them. */
  readonly bad: readonly Reject[];
}

/** Checks the records of a list as those of a page are checked (R2 to R5, R7, R9, R10). */
export function readListed(entity: Entity, list: List): ListedRecords {
  const { batches, rejects } = normaliseRecords(entity, list.records, UNVERSIONED, list.recordBytes);
  const byId = new Map<string, Listed>();
  const lacking = new Set(rejects.map(({ conversationId }) => conversationId));
  for (const { rows, partial, json } of batches) {
    for (const row of rows) {
      const id = row[entity.key] as string;
      // A later batch has the newer version; what only adds to a record does not stand for it.
      if (partial && byId.has(id)) continue;
      byId.set(id, { id, row, partial, lacksMembers: lacking.has(id), json: () => json(row) });
    }
  }
  return { good: [...byId.values()], bad: rejects.filter(({ kind }) => kind === entity.kind) };
}

/** Listed records as the ordinary way of writing takes them. */
export function batchesOf(kind: Kind, listed: readonly Listed[]): Batch[] {
  const json = new Map(listed.map((one) => [one.row, one.json]));
  return [false, true].flatMap((partial) => {
    const rows = listed.filter((one) => one.partial === partial).map((one) => one.row);
    return rows.length === 0 ? [] : [{ kind, partial, rows, json: (row: Row) => json.get(row)!() }];
  });
}
