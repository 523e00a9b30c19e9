import type { Entity } from '../entities.ts';
import { cutBytes } from '../lib/text.ts';
import { type ConnectionId, MAX_RECORD_ID_BYTES, type Reject, type Row } from '../model.ts';
import type { CompareTarget } from '../store/comparison.ts';
import type { Db } from '../store/database.ts';
import { membersPutAside, neverPutAside, putAside } from '../store/put-aside.ts';
import { readForgotten } from '../store/state.ts';
import { type Forgetting, Suppression } from '../sync/suppression.ts';
import type { Listed } from './listed.ts';

/** What of the suspects is no drift, and what is left of the others to be compared with. */
export interface Exempted {
  readonly exempt: ReadonlySet<string>;
  /** Listed records that have to be looked at again, because they were brought to what is meant to be stored. */
  readonly adjusted: readonly Listed[];
}

/**
 * The one place that decides which records the upstream serves and the tables rightly lack, or have otherwise: what
 * was erased (R20) or is older than RETAIN_MESSAGES, and what the quarantine holds or somebody discarded (R9). Text that
 * was mended (R10) needs nothing here: listed records are mended in the same way before they are compared.
 */
export async function exemptions(
  db: Db,
  forgetting: Forgetting,
  entity: Entity,
  suspects: readonly Listed[],
  { connectionId, numbering }: CompareTarget,
): Promise<Exempted> {
  const records = suspects.map(({ id, row }) => ({ id, version: row[entity.version] as string }));
  const aside = await putAside(db, connectionId, numbering, entity.kind, records);
  const others = suspects.filter(({ id }) => !aside.has(id));
  const { gone, left } = await withoutForgotten(db, forgetting, connectionId, entity, others);
  const exempt = new Set([...aside, ...gone]);
  const meant = entity.kind === 'conversation' ? await withoutMembersAside(db, connectionId, left) : left;
  const came = new Set(others);
  return { exempt, adjusted: meant.filter((one) => !came.has(one)) };
}

/** Bad records that have to be told of: those of which the quarantine has never heard, and rightly should. */
export async function unheardOf(
  db: Db,
  forgetting: Forgetting,
  connectionId: ConnectionId,
  bad: readonly Reject[],
): Promise<Reject[]> {
  if (bad.length === 0) return [];
  const suppression = await suppressionOf(db, forgetting, connectionId);
  return await neverPutAside(db, connectionId, (await suppression?.rejects(bad)) ?? bad);
}

async function suppressionOf(
  db: Db,
  forgetting: Forgetting,
  connectionId: ConnectionId,
): Promise<Suppression | undefined> {
  const state = await readForgotten(db, connectionId);
  return state && Suppression.of(db, connectionId, state, forgetting);
}

async function withoutForgotten(
  db: Db,
  forgetting: Forgetting,
  connectionId: ConnectionId,
  entity: Entity,
  listed: readonly Listed[],
): Promise<{ gone: string[]; left: readonly Listed[] }> {
  const suppression = await suppressionOf(db, forgetting, connectionId);
  if (suppression === undefined) return { gone: [], left: listed };
  const rows = await suppression.rows(
    entity.kind,
    listed.map(({ row }) => row),
  );
  const gone: string[] = [];
  const left: Listed[] = [];
  for (const [at, one] of listed.entries()) {
    const row = rows[at];
    if (row === undefined) gone.push(one.id);
    else left.push(row === one.row ? one : { ...one, row });
  }
  return { gone, left };
}

async function withoutMembersAside(
  db: Db,
  connectionId: ConnectionId,
  listed: readonly Listed[],
): Promise<Listed[]> {
  const ids = listed.map(({ id }) => id);
  const aside = await membersPutAside(db, connectionId, ids);
  return listed.map((one) => {
    const members = one.row.participants as readonly Row[] | undefined;
    const left = members?.filter(
      ({ participant_jid: jid }) => !aside.has(`${one.id} ${cutBytes(jid as string, MAX_RECORD_ID_BYTES)}`),
    );
    if (members === undefined || left!.length === members.length) return one;
    return { ...one, row: { ...one.row, participants: left }, lacksMembers: true };
  });
}
