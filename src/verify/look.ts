import type { Transaction } from 'kysely';
import type { Entity } from '../entities.ts';
import { refusesData, sqlstate } from '../errors/errors.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId, Reject } from '../model.ts';
import { type CompareTarget, compare, UNVERSIONED, type Verdict } from '../store/comparison.ts';
import type { Db } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import { readPosition } from '../store/state.ts';
import { attempt, halve } from '../sync/halve.ts';
import type { Forgetting } from '../sync/suppression.ts';
import { exemptions, unheardOf } from './exemptions.ts';
import { batchesOf, type Listed, type ListedRecords } from './listed.ts';

/** Records in one statement: a list that is not paged may have very many. */
const SLICE = 1_000;

/** How often it looks again where the stream of changes may be behind the lists. */
const MORE_LOOKS = 2;

export interface LookContext {
  readonly db: Db;
  readonly forgetting: Forgetting;
  /** Has everything replicated that changed until now. @throws ReplicaError where that fails. */
  readonly settle: (connectionId: ConnectionId, signal: AbortSignal) => Promise<void>;
  /** The pause before it looks again, in milliseconds. */
  readonly lookAgainAfter: number;
}

type Drift = Exclude<Verdict, 'same' | 'ahead'>;

/** What a list has and the tables have otherwise. */
export interface Found {
  readonly good: readonly Listed[];
  readonly bad: readonly Reject[];
  /** How each record was found; of the bad ones, all are missing. */
  readonly verdicts: ReadonlyMap<string, Drift>;
  readonly ahead: number;
  readonly exempt: number;
  /** How many of the list's records have a row (see `CompareTarget`). */
  readonly known: number;
}

/**
 * Compares a list with the tables, and looks again before anything counts as drift: what changed while the list was
 * read is replicated by then (`settle`). The stream of changes may itself be behind the lists: for a record that it may
 * not have reached yet it is waited a little and looked once more.
 * @returns undefined where the connection was numbered anew meanwhile: the list has to be read again.
 */
export async function look(
  context: LookContext,
  entity: Entity,
  listed: ListedRecords,
  target: CompareTarget,
  signal: AbortSignal,
): Promise<Found | undefined> {
  const { db, forgetting, settle, lookAgainAfter } = context;
  const { connectionId, numbering } = target;
  const first = await compareAll(db, entity, listed.good, target);
  let suspects = first.drifted;
  let verdicts = first.verdicts;
  let bad = await unheardOf(db, forgetting, connectionId, listed.bad);
  let exempt = listed.bad.length - bad.length;
  let { known } = first;
  for (let looks = 0; suspects.length + bad.length > 0; looks++) {
    if (looks > 0) await sleep(lookAgainAfter, signal);
    await settle(connectionId, signal);
    const position = await readPosition(db, connectionId);
    if (position?.numbering !== numbering) return undefined;
    if (looks === 0) {
      // Those whose page was being written at the first look are known, too.
      const missing = suspects.filter(({ id }) => verdicts.get(id) === 'missing');
      known += (await compareAll(db, entity, missing, target)).known;
    }
    const heard = bad.length;
    bad = await unheardOf(db, forgetting, connectionId, bad);
    exempt += heard - bad.length;
    const judged = await judge(db, forgetting, entity, suspects, target);
    suspects = judged.drifted;
    verdicts = judged.verdicts;
    exempt += judged.exempt;
    const mayBeBehind = (version: string) =>
      version === UNVERSIONED.toString() || BigInt(version) > position.cursor;
    const unsure = suspects.some(({ row }) => mayBeBehind(row[entity.version] as string)) || bad.length > 0;
    if (looks >= (unsure ? MORE_LOOKS : 0)) break;
  }
  return { good: suspects, bad, verdicts, ahead: first.ahead, exempt, known };
}

interface Judged {
  readonly drifted: Listed[];
  readonly verdicts: ReadonlyMap<string, Drift>;
}

async function compareAll(
  db: Db,
  entity: Entity,
  listed: readonly Listed[],
  target: CompareTarget,
): Promise<Judged & { ahead: number; known: number }> {
  const verdicts = new Map<string, Drift>();
  let ahead = 0;
  let known = 0;
  for (let at = 0; at < listed.length; at += SLICE) {
    for (const { rows, partial } of batchesOf(entity.kind, listed.slice(at, at + SLICE))) {
      const refused = await halve(rows, (some) =>
        asked(db, async () => {
          const compared = await compare(db, entity, some, target, partial);
          for (const verdict of ['missing', 'older', 'different', 'conflicting'] as const) {
            for (const id of compared.ids[verdict]) verdicts.set(id, verdict);
          }
          ahead += compared.ids.ahead.length;
          known += compared.known;
        }),
      );
      for (const { one } of refused) {
        // Of one that Postgres refuses it can be asked whether a row is there.
        const { [entity.key]: id, [entity.version]: version } = one;
        const stub = { [entity.key]: id, [entity.version]: version };
        const compared = await compare(db, entity, [stub], target, false);
        verdicts.set(id as string, compared.ids.missing.length > 0 ? 'missing' : 'different');
        known += compared.known;
      }
    }
  }
  return { drifted: listed.filter(({ id }) => verdicts.has(id)), verdicts, ahead, known };
}

/** Asks Postgres something about records. @returns the SQLSTATE where it refuses one of them. */
async function asked(db: Db, work: () => Promise<void>): Promise<string | undefined> {
  if (db.isTransaction) return await attempt(db as Transaction<Database>, work);
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!refusesData(error)) throw error;
    return sqlstate(error);
  }
}

/** Which of the suspects are drift as things stand: those that the tables have otherwise, but for what rightly is. */
export async function judge(
  db: Db,
  forgetting: Forgetting,
  entity: Entity,
  suspects: readonly Listed[],
  target: CompareTarget,
): Promise<Judged & { exempt: number }> {
  const { drifted, verdicts } = await compareAll(db, entity, suspects, target);
  if (drifted.length === 0) return { drifted, verdicts, exempt: 0 };
  const { exempt, adjusted } = await exemptions(db, forgetting, entity, drifted, target);
  const left = drifted.filter(({ id }) => !exempt.has(id));
  if (adjusted.length === 0) return { drifted: left, verdicts, exempt: exempt.size };
  const ids = new Set(adjusted.map(({ id }) => id));
  const again = await compareAll(db, entity, adjusted, target);
  const others = left.filter(({ id }) => !ids.has(id));
  return {
    drifted: [...others, ...again.drifted],
    verdicts: new Map([...verdicts, ...again.verdicts]),
    exempt: exempt.size + adjusted.length - again.drifted.length,
  };
}
