import { LOCKED } from '../errors/codes.ts';
import { remedy } from '../errors/remedies.ts';
import { isDoubling } from '../lib/doubling.ts';
import type { ConnectionId } from '../model.ts';
import type { Listener, SyncEvent } from '../sync/events.ts';
import { errorFields, type Logger } from './logger.ts';

/**
 * Writes what happens to the log. A page is `debug`; a backlog done, a park, a recovery, a takeover are `info`.
 * A failure's level grows with its delay, and one that repeats is told again only when its
 * kind changes or its count has doubled.
 */
export function eventLog(log: Logger): Listener {
  const lastKind = new Map<ConnectionId, string>();
  return (event) => {
    switch (event.type) {
      case 'page': {
        const { type: _, tally, cursor, connectionId, requestTook, applyTook, hasMore, ...rest } = event;
        const took = { request_ms: Math.round(requestTook), apply_ms: Math.round(applyTook) };
        log.debug(
          {
            connection_id: connectionId,
            cursor: cursor.toString(),
            has_more: hasMore,
            ...rest,
            ...took,
            tally,
          },
          'page',
        );
        if (event.quarantined > 0) {
          log.warn({ connection_id: connectionId, records: event.quarantined }, 'records quarantined');
        }
        break;
      }
      case 'caught_up':
        log.info(
          {
            connection_id: event.connectionId,
            pages: event.pages,
            records: event.records,
            ms: Math.round(event.took),
          },
          'caught up',
        );
        break;
      case 'gap':
        log.error(
          {
            connection_id: event.connectionId,
            from: event.from,
            to: event.to,
            hint: 'what the upstream forgot in between is lost; see `wa-replica gaps list`',
          },
          'gap recorded',
        );
        break;
      case 'failed':
        if (isDoubling(event.failures) || lastKind.get(event.connectionId) !== event.error.kind)
          failed(log, event);
        lastKind.set(event.connectionId, event.error.kind);
        break;
      case 'recovered':
        lastKind.delete(event.connectionId);
        log.info({ connection_id: event.connectionId, failures: event.failures }, 'recovered');
        break;
      case 'limit':
        log.info(
          { connection_id: event.connectionId, limit: event.limit, reason: event.reason },
          'limit lowered',
        );
        break;
      case 'epoch':
        log.warn({ connection_id: event.connectionId, reason: event.reason }, 'starting over from cursor 0');
        break;
      case 'fenced':
        log.info(
          { connection_id: event.connectionId, lease_lost: event.leaseLost },
          "page dropped: the cursor is another's",
        );
        break;
      case 'lease_taken':
        log[event.takenOver ? 'info' : 'debug'](
          { connection_id: event.connectionId },
          event.takenOver ? 'connection taken over' : 'connection leased',
        );
        break;
      case 'lease_lost':
        log.warn({ connection_id: event.connectionId }, 'lease lost');
        break;
      case 'lease_returned':
        log.debug({ connection_id: event.connectionId }, 'lease returned');
        break;
      case 'lease_locked':
        if (isDoubling(event.looks))
          log.error(
            { connection_id: event.connectionId, hint: remedy('database', LOCKED) },
            'a connection waits: somebody has locked its row',
          );
        break;
      case 'connection_found':
        log.info({ connection_id: event.connectionId }, 'connection found');
        break;
      case 'connection_removed':
        log.warn({ connection_id: event.connectionId }, 'connection removed upstream; its data stays');
        break;
      case 'connection_renamed':
        log.info({ connection_id: event.connectionId }, 'the unnamed connection has an id now');
        break;
      case 'discovery_failed':
        log.warn(errorFields(event.error), 'cannot look up the connections');
        break;
      case 'nameless_keys':
        log.error(
          { keys: event.keys, hint: 'give WHATSAPP_USE_CONNECTION_IDS' },
          'several keys list no connection: only the first is used',
        );
        break;
      case 'worker_failed':
        if (isDoubling(event.failures)) {
          log[event.failures > 1 ? 'error' : 'warn'](
            { ...errorFields(event.error), failures: event.failures },
            'cannot renew leases',
          );
        }
        break;
      case 'worker_recovered':
        log.info({ failures: event.failures }, 'leases are renewed again');
        break;
    }
  };
}

/** What a command tells of beside its output, which has what goes well. */
const TROUBLE: ReadonlySet<SyncEvent['type']> = new Set<SyncEvent['type']>([
  'failed',
  'worker_failed',
  'lease_locked',
  'discovery_failed',
  'nameless_keys',
  'epoch',
  'gap',
]);

/** The log of a command: of what happens, what somebody should know that its output does not say. */
export function troubleLog(log: Logger): Listener {
  const toLog = eventLog(log);
  return (event) => {
    if (TROUBLE.has(event.type)) toLog(event);
  };
}

function failed(log: Logger, event: Extract<SyncEvent, { type: 'failed' }>): void {
  const { connectionId, error, failures, retryIn } = event;
  const fields = {
    connection_id: connectionId,
    ...errorFields(error),
    failures,
    retry_in_ms: Math.round(retryIn),
  };
  if (error.verdict === 'park') log.error(fields, 'connection parked');
  else if (retryIn < 1000 && failures < 3) log.info(fields, 'turn failed');
  else if (failures < 6) log.warn(fields, 'turn failed');
  else log.error(fields, 'turn failed');
}
