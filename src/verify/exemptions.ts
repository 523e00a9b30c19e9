import type { Entity } from '../entities.ts';
import { cutBytes } from '../lib/text.ts';
import { MAX_RECORD_ID_BYTES, type Row } from '../model.ts';
import type { CompareTarget } from '../store/comparison.ts';
import type { Db } from '../store/database.ts';
import { membersPutAside, putAside } from '../store/put-aside.ts';
import type { Listed } from './listed.ts';

/** What of the suspects is no drift, and what is left of the others to be compared with. */
export interface Exempted {
  readonly exempt: ReadonlySet<string>;
  /** Listed records that have to be looked at again, because they were brought to what is meant to be stored. */
  readonly adjusted: readonly Listed[];
}

/**
 * The one place that decides which records the upstream serves and the tables rightly lack, or have otherwise: what
 * the quarantine holds or somebody discarded (R9). Text that was mended (R10) needs nothing here: listed records are
 * mended in the same way before they are compared.
 */
export async function exemptions(
  db: Db,
  entity: Entity,
  suspects: readonly Listed[],
  { connectionId, numbering }: CompareTarget,
): Promise<Exempted> {
  const records = suspects.map(({ id, row }) => ({ id, version: row[entity.version] as string }));
  const exempt = await putAside(db, connectionId, numbering, entity.kind, records);
  if (entity.kind !== 'conversation') return { exempt, adjusted: [] };
  const others = suspects.filter(({ id }) => !exempt.has(id));
  const aside = await membersPutAside(
    db,
    connectionId,
    others.map(({ id }) => id),
  );
  const adjusted = others.flatMap((one) => {
    const members = one.row.participants as readonly Row[] | undefined;
    const left = members?.filter(
      ({ participant_jid: jid }) => !aside.has(`${one.id} ${cutBytes(jid as string, MAX_RECORD_ID_BYTES)}`),
    );
    if (members === undefined || left!.length === members.length) return [];
    return [{ ...one, row: { ...one.row, participants: left } }];
  });
  return { exempt, adjusted };
}
