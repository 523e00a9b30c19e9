import type { Entity } from '../entities.ts';
import { ReplicaError } from '../errors/errors.ts';
import { parseTime } from '../lib/rfc3339.ts';
import type { ConnectionId } from '../model.ts';
import { type CompareTarget, readBefore } from '../store/comparison.ts';
import type { CountsByKind } from '../store/verifications.ts';
import type { VerifyContext, VerifyOrder } from './context.ts';
import { requireLease } from './lease.ts';
import { readListed } from './listed.ts';
import { look } from './look.ts';
import type { Read } from './reader.ts';
import { repair } from './repair.ts';

/** How often a list is read where the connection is numbered anew meanwhile. */
const MOST_READS = 3;

export interface Oldest {
  readonly id: string;
  /** As the tables have it (R5); undefined where it is not set. */
  readonly sentAt: string | undefined;
}

/** One page of a list that was compared. */
export interface CheckedPage {
  readonly ids: readonly string[];
  readonly known: number;
  readonly target: CompareTarget;
  readonly hasMore: boolean;
  readonly oldest: Oldest | undefined;
}

/** Whose pages are checked, and where what is found of them is counted. */
export interface PageChecks {
  readonly context: VerifyContext;
  readonly connectionId: ConnectionId;
  readonly order: VerifyOrder;
  /** Only messages that were sent from then on are known (see `CompareTarget`), as text that Postgres reads. */
  readonly since: string | null;
  readonly counts: CountsByKind;
}

/**
 * Reads, compares and mends one page of a list.
 * @param storedBefore rows that were stored before then count as known.
 * @throws ReplicaError of the list, or where the connection is not this worker's, or known, any more.
 */
export async function checkPage(
  { context, connectionId, order, since, counts: all }: PageChecks,
  entity: Entity,
  read: () => Promise<Read>,
  storedBefore: string,
  signal: AbortSignal,
): Promise<CheckedPage> {
  const counts = all[entity.kind];
  for (let reads = 1; ; reads++) {
    requireLease(order);
    const before = await readBefore(context.db, connectionId, context.listsBehind);
    if (before === undefined) {
      throw new ReplicaError('not_found', { where: 'the connection is not known here any more' });
    }
    const target = { connectionId, ...before, storedBefore, sentAfter: since };
    const { list, release } = await read();
    try {
      const listed = readListed(entity, list);
      const found = await look(context, entity, listed, target, signal);
      if (found === undefined) {
        if (reads < MOST_READS) continue;
        throw new ReplicaError('stalled', { where: 'the connection is numbered anew again and again' });
      }
      counts.checked += listed.good.length + listed.bad.length;
      counts.missing += found.bad.length;
      for (const verdict of found.good.map(({ id }) => found.verdicts.get(id)!)) counts[verdict]++;
      counts.ahead += found.ahead;
      counts.exempt += found.exempt;
      if (order.repair && found.good.length + found.bad.length > 0) {
        counts.mended += await repair(context, entity, found, target);
      }
      const ids = listed.good.map(({ id }) => id);
      return {
        ids,
        known: found.known,
        target,
        hasMore: list.hasMore,
        oldest: oldestOf(list.records),
      };
    } finally {
      release();
    }
  }
}

/** What the next page goes back from: the last message of a page that has an id. */
function oldestOf(records: readonly unknown[]): Oldest | undefined {
  for (const record of [...records].reverse()) {
    const { message_id: id, sent_at: sentAt } = (record ?? {}) as { message_id?: unknown; sent_at?: unknown };
    if (typeof id === 'string' && id !== '')
      return { id, sentAt: typeof sentAt === 'string' ? (parseTime(sentAt) ?? undefined) : undefined };
  }
  return undefined;
}
