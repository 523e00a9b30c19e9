import { queueMissed } from '../media/missed.ts';
import { refetchMissing } from '../media/missing.ts';
import { ownerOf } from '../media/owner.ts';
import { removeFiles } from '../media/removal.ts';
import { sweep } from '../media/sweep.ts';
import type { Logger } from '../ops/logger.ts';
import type { Job } from '../ops/upkeep.ts';
import type { Replica } from '../replica/replica.ts';
import { prunableConnections, pruneChanges } from '../store/changes.ts';
import { unverifiedGaps } from '../store/gaps.ts';
import { type Hazard, staleCollation } from '../store/hazards.ts';
import { foldLedger } from '../store/ledger.ts';
import { type MissedPosition, redactMedia } from '../store/media-queue.ts';
import { tendSearch } from '../store/search.ts';
import { neverDone, settledAmong } from '../store/upkeep.ts';
import { forgetVerifications, sums } from '../store/verifications.ts';
import { forgetDeadWorkers } from '../store/workers.ts';
import { expireMessages } from '../sync/retention.ts';
import { verify } from '../verify/verification.ts';
import type { Archiving } from './archiving.ts';
import { linkFromSettings } from './linking.ts';
import { verifyContext } from './verifying.ts';

/** Dead workers stay in the list this long, for whoever looks into what happened; results of verifications too. */
const KEEP_DEAD_WORKERS_DAYS = 7;
const KEEP_VERIFICATIONS_DAYS = 90;

/** When contacts are linked where CRM_LINK_CRON is not set. */
const LINK_CRON = '38 * * * *';

/** Changes that one statement prunes. */
const PRUNED_AT_ONCE = 5_000;

/** The daemon's upkeep: every job there is, and when it is done (UTC). Hourly and daily ones at times that few others use. */
export function upkeepJobs(replica: Replica, log: Logger, archiving?: Archiving): Job[] {
  const { settings, control, maintenance } = replica;
  const { VERIFY_CRON } = settings;
  return [
    {
      name: 'workers',
      cron: '23 * * * *',
      each: 'worker',
      async run() {
        const workers = await forgetDeadWorkers(control, KEEP_DEAD_WORKERS_DAYS);
        if (workers > 0) log.info({ workers }, 'dead workers forgotten');
      },
    },
    {
      // A server may be replaced under a daemon that goes on.
      name: 'collation',
      cron: '52 * * * *',
      each: 'worker',
      async run() {
        const stale = await staleCollation(control);
        if (stale !== undefined) tellOf(stale, log);
      },
    },
    {
      name: 'ledger',
      cron: '41 2 * * *',
      each: 'connection',
      async run(connectionId) {
        const rows = await foldLedger(maintenance, connectionId, settings.LEDGER_DETAIL);
        if (rows > 0) log.info({ connection_id: connectionId, rows }, 'ledger folded');
        await forgetVerifications(maintenance, connectionId, KEEP_VERIFICATIONS_DAYS);
        return true;
      },
    },
    {
      name: 'changes',
      cron: '4-59/10 * * * *',
      each: 'worker',
      run: (signal) => prune(replica, log, signal),
    },
    ...(settings.RETAIN_MESSAGES === undefined
      ? []
      : [retentionJob(replica, settings.RETAIN_MESSAGES, archiving, log)]),
    ...searchJobs(replica),
    ...linkJobs(replica, log),
    ...(VERIFY_CRON === 'off' ? [] : [verifyJob(replica, VERIFY_CRON, log)]),
    ...(archiving === undefined ? [] : mediaJobs(replica, archiving, log)),
  ];
}

/** The log's line of a hazard. */
export function tellOf({ of, what, remedy }: Hazard, log: Logger): void {
  const told = { error: what, hint: remedy };
  if (of === 'collation') log.error(told, 'the collation has changed');
  else log.warn(told, 'Postgres may lose what it has committed');
}

/** Every minute: little waits in the index's list then, and a backlog is not held up by clearing it row by row. */
function searchJobs({ settings, maintenance }: Replica): Job[] {
  if (settings.SEARCH === 'off') return [];
  const run = () => tendSearch(maintenance, settings.WA_REPLICA_SCHEMA);
  return [{ name: 'search', cron: '* * * * *', each: 'worker', run }];
}

/** Where there is a CRM. Of several workers one links, and the others go on; a second run after it writes nothing. */
function linkJobs(replica: Replica, log: Logger): Job[] {
  const { CRM_CONTACTS_QUERY: query, CRM_LINK_CRON: cron = LINK_CRON } = replica.settings;
  if (query === undefined || cron === 'off') return [];
  return [
    {
      name: 'link',
      cron,
      each: 'worker',
      async run(signal) {
        const report = await linkFromSettings(replica, false, signal);
        if (report === undefined) return;
        const { rows, links, added, removed, contacts, matched, ambiguous, unreadable } = report;
        log.info(
          { rows, links, added, removed, contacts, matched, ambiguous, unreadable },
          'contacts linked',
        );
      },
    },
  ];
}

/** Of all connections, those too that nobody replicates any more. With CHANGES=off, what was told before. */
async function prune({ settings, maintenance }: Replica, log: Logger, signal: AbortSignal): Promise<void> {
  const retention = settings.CHANGES_RETENTION;
  let rows = 0;
  for (const connectionId of await prunableConnections(maintenance, retention)) {
    for (let gone = PRUNED_AT_ONCE; gone === PRUNED_AT_ONCE && !signal.aborted; rows += gone) {
      gone = await pruneChanges(maintenance, connectionId, retention, PRUNED_AT_ONCE);
    }
  }
  if (rows > 0) log.info({ rows }, 'changes pruned');
}

/** Of all connections, as {@link prune}. */
function retentionJob(
  { settings, maintenance: db, limits }: Replica,
  retain: number,
  archiving: Archiving | undefined,
  log: Logger,
): Job {
  const remove = async (files: readonly string[]) => {
    const { elsewhere } =
      archiving === undefined
        ? { elsewhere: files }
        : await removeFiles(archiving.db, archiving.store, files);
    // Their rows are gone, and no sweep comes there.
    if (elsewhere.length > 0)
      log.warn({ files: elsewhere.length, first: elsewhere[0] }, 'files of old messages are left');
  };
  return {
    name: 'retention',
    cron: '11-59/15 * * * *',
    each: 'worker',
    async run(signal) {
      const context = { db, limits, retain, changes: settings.CHANGES, removeFiles: remove };
      const messages = await expireMessages(context, signal);
      if (messages > 0) log.info({ messages }, 'old messages deleted');
    },
  };
}

function verifyJob(replica: Replica, cron: string, log: Logger): Job {
  const { settings, control, worker } = replica;
  const context = verifyContext(replica);
  return {
    name: 'verify',
    cron,
    each: 'connection',
    among: (ids) => settledAmong(control, ids),
    urgent: (ids) => unverifiedGaps(control, ids),
    async run(connectionId, signal) {
      const gaps = await unverifiedGaps(control, [connectionId]);
      const order = {
        cause: gaps.length > 0 ? ('gap' as const) : ('schedule' as const),
        repair: settings.VERIFY_REPAIR,
        resume: true,
        mayGoOn: () => worker.holds(connectionId),
      };
      const { state, counts, requests, ledger, error } = await verify(context, connectionId, order, signal);
      if (state === 'interrupted') return false;
      if (error !== undefined) throw error;
      const { checked, drift, mended, remaining } = sums(counts);
      const fields = { connection_id: connectionId, cause: order.cause, checked, requests, drift, mended };
      if (remaining + ledger.length === 0) log.info(fields, 'verified');
      else log.error({ ...fields, remaining, counts, ledger }, 'verified: the replica differs');
      return true;
    },
  };
}

/** What came while MEDIA_STORE was off is queued: at the first start with it, and daily. Files that nothing refers to go. */
function mediaJobs(replica: Replica, { archive, db, store }: Archiving, log: Logger): Job[] {
  const { settings, control, maintenance } = replica;
  const redact = settings.DELETED_MESSAGES === 'redact';
  const name = 'media';
  return [
    {
      name,
      cron: '11 4 * * *',
      each: 'connection',
      urgent: (ids) => neverDone(control, name, ids),
      async run(connectionId, signal) {
        let attachments = 0;
        let at: MissedPosition | undefined;
        do {
          const step = await queueMissed(maintenance, connectionId, settings.RETENTION_WINDOW, redact, at);
          attachments += step.queued;
          at = step.next;
          if (step.queued > 0) archive.wake();
        } while (at !== undefined && !signal.aborted);
        if (attachments > 0) log.info({ connection_id: connectionId, attachments }, 'attachments queued');
        if (redact) await redactMedia(maintenance, connectionId);
        return !signal.aborted;
      },
    },
    {
      name: 'media_sweep',
      cron: '37 4 * * *',
      each: 'worker',
      async run(signal) {
        await store.check(await ownerOf(db, settings.WA_REPLICA_SCHEMA));
        const { orphans, incoming } = await sweep(db, store, signal);
        if (orphans + incoming > 0) log.info({ orphans, incoming }, 'files without a message removed');
        const attachments = await refetchMissing(db, store, settings.RETENTION_WINDOW, signal);
        if (attachments === 0) return;
        log.warn({ attachments }, 'stored attachments have no file: they are fetched again');
        archive.wake();
      },
    },
  ];
}
