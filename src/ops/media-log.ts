import { isDoubling } from '../lib/doubling.ts';
import type { MediaEvent, MediaListener } from '../media/events.ts';
import type { ConnectionId } from '../model.ts';
import { errorFields, type Logger } from './logger.ts';

/** Writes to the log what happens to attachments. A file is `debug`; what holds them up is told when its kind changes or
 * its count has doubled, as for pages. */
export function mediaLog(log: Logger): MediaListener {
  const lastKind = new Map<ConnectionId, string>();
  return (event) => {
    switch (event.type) {
      case 'stored':
        log.debug(
          { connection_id: event.connectionId, bytes: event.bytes, ms: Math.round(event.took) },
          'attachment stored',
        );
        break;
      case 'gone':
        if (event.state === 'failed') {
          log.warn({ connection_id: event.connectionId, ...errorFields(event.error) }, 'attachment not kept');
        } else log.debug({ connection_id: event.connectionId }, 'attachment not served');
        break;
      case 'again':
        log.debug({ connection_id: event.connectionId, ...errorFields(event.error) }, 'attachment delayed');
        break;
      case 'held': {
        const { connectionId, error } = event;
        if (isDoubling(event.failures) || lastKind.get(connectionId) !== error.kind) {
          log.warn({ connection_id: connectionId, ...failure(event) }, 'attachments of a connection wait');
        }
        lastKind.set(connectionId, error.kind);
        break;
      }
      case 'released':
        lastKind.delete(event.connectionId);
        log.info(
          { connection_id: event.connectionId, failures: event.failures },
          'attachments of a connection come again',
        );
        break;
      case 'stopped':
        if (isDoubling(event.failures)) log.error(failure(event), 'attachments wait');
        break;
      case 'resumed':
        log.info({ failures: event.failures }, 'attachments come again');
        break;
    }
  };
}

function failure({ error, failures, retryIn }: Extract<MediaEvent, { retryIn: number }>) {
  return { ...errorFields(error), failures, retry_in_ms: Math.round(retryIn) };
}
