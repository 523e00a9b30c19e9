import type { Kysely } from 'kysely';
import type { Entity } from '../entities.ts';
import { refusesData } from '../errors/errors.ts';
import type { ConnectionId, Reject } from '../model.ts';
import { type CompareTarget, replacingVersions, UNVERSIONED } from '../store/comparison.ts';
import { countInserted } from '../store/dead-letters.ts';
import { setCounters } from '../store/ledger.ts';
import { neverPutAside } from '../store/put-aside.ts';
import { quarantine } from '../store/quarantine.ts';
import type { Database } from '../store/schema.ts';
import { lockState } from '../store/state.ts';
import { inTransaction, liftTimeout, type TransactionLimits } from '../store/transaction.ts';
import { Suppression } from '../sync/suppression.ts';
import { hasChanged, resolveSuperseded, type Writing, type Written, write } from '../sync/write.ts';
import { batchesOf, type Listed } from './listed.ts';
import { judge } from './look.ts';
import type { NoteContext } from './note.ts';
import { isBusy, patient } from './patience.ts';

export interface RepairContext extends Writing {
  readonly db: Kysely<Database>;
  readonly limits: TransactionLimits;
}

/**
 * Writes records that were found missing, older or different, by the ordinary way and its rules. It locks the
 * connection's state row instead of holding the lease, and moves no cursor (R22). Behind the lock they are judged once
 * more: what is no drift any more, since a page has written it meanwhile or an erasure removed it, is left alone.
 *
 * A record without a version of its own has the cursor that was read before the list was asked for (R2), so that what
 * live pages bring later replaces it. Where the stored row has a higher version and is different all the same, it was
 * not written since the list was asked for, and the list is newer than it: it is replaced at its own version, which
 * counts as amended.
 * @returns how many are drift no more, as they are compared once more at the end: what was written, put aside, or left
 * alone for that.
 * @throws what Postgres throws, but for a refusal of a record.
 */
export async function repair(
  context: RepairContext,
  entity: Entity,
  found: { readonly good: readonly Listed[]; readonly bad: readonly Reject[] },
  target: CompareTarget,
): Promise<number> {
  try {
    return await attempt(context, entity, found, target, false);
  } catch (error) {
    if (!refusesData(error)) throw error;
    return await attempt(context, entity, found, target, true);
  }
}

async function attempt(
  { db, limits, history, changes, forgetting, media }: RepairContext,
  entity: Entity,
  { good, bad }: { readonly good: readonly Listed[]; readonly bad: readonly Reject[] },
  target: CompareTarget,
  carefully: boolean,
): Promise<number> {
  const { connectionId, numbering, cursor } = target;
  return await inTransaction(db, limits, async (trx) => {
    const state = await lockState(trx, connectionId);
    // Numbered anew meanwhile: what was listed then has no version now.
    if (state === undefined || state.numbering !== numbering) return 0;
    const still = (await judge(trx, forgetting, entity, good, target)).drifted;
    let rows = still;
    const unversioned = still.filter(({ row }) => row[entity.version] === UNVERSIONED.toString());
    if (unversioned.length > 0) {
      const ids = unversioned.map(({ id }) => id);
      const versions = await replacingVersions(trx, entity, ids, target);
      rows = still.map((one) =>
        unversioned.includes(one)
          ? { ...one, row: { ...one.row, [entity.version]: versions.get(one.id) ?? cursor } }
          : one,
      );
    }
    const to = { connectionId, numbering, history, changes, media };
    const suppression = Suppression.of(trx, connectionId, state, forgetting);
    const written = await write(trx, batchesOf(entity.kind, rows), to, { carefully, suppression });
    const unheard = await neverPutAside(trx, connectionId, bad);
    const rejects = [...((await suppression?.rejects(unheard)) ?? unheard), ...written.refused];
    if (rejects.length > 0) {
      const position = BigInt(cursor);
      await quarantine(trx, rejects, { connectionId, numbering, from: position, to: position });
    }
    if (state.hasQuarantine || rejects.length > 0)
      await resolveSuperseded(trx, withoutMembership(written, still), to);
    const untold = !changes && hasChanged(written.tally);
    await countInserted(trx, connectionId, written.tally, { beside: true, untold });
    const left = (await judge(trx, forgetting, entity, still, target)).drifted;
    return good.length - left.length + bad.length;
  });
}

/** What was written, but for the membership of conversations of which members are left out: those are not resolved. */
function withoutMembership(written: Written, listed: readonly Listed[]): Written {
  const lacking = new Set(listed.filter(({ lacksMembers }) => lacksMembers).map(({ id }) => id));
  const good = written.good.map(({ entity, rows }) => {
    const told = rows.map((row) =>
      lacking.has(row[entity.key] as string) ? { ...row, participants: undefined } : row,
    );
    return { entity, rows: told };
  });
  return { ...written, good };
}

/**
 * Sets the counters of stored rows to what is there: rows that were removed by hand and brought back count twice.
 * @throws the signal's reason, also while another has the state row.
 */
export async function recount(
  { maintenance, notePatience }: Pick<NoteContext, 'maintenance' | 'notePatience'>,
  connectionId: ConnectionId,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await inTransaction(maintenance, patient(notePatience), async (trx) => {
        await lockState(trx, connectionId);
        await liftTimeout(trx);
        await setCounters(trx, connectionId);
      });
    } catch (error) {
      if (!isBusy(error)) throw error;
    }
  }
}
