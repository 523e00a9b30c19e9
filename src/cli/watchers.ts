import type { Settings } from '../config/settings.ts';
import type { ConnectionId } from '../model.ts';
import { ChangeBell } from '../ops/change-bell.ts';
import type { Logger } from '../ops/logger.ts';
import { createMetrics, type Metrics } from '../ops/metrics.ts';
import type { SchemaWatch } from '../ops/schema-watch.ts';
import type { Replica } from '../replica/replica.ts';
import { announceChanges } from '../store/notify.ts';
import type { Listener } from '../sync/events.ts';

/** What is told of what happens, beside the log. */
export interface Watchers {
  readonly metrics: Metrics;
  readonly schema: SchemaWatch;
  readonly gaps: Bell;
  readonly media: Bell;
}

/** What is done at once when something happened: a gap was recorded, messages were written. */
export interface Bell {
  ring: () => void;
}

export function metricsOf({ METRICS_PER_CONNECTION, CHANGES_RETENTION }: Settings): Metrics {
  return createMetrics({ perConnection: METRICS_PER_CONNECTION, retention: CHANGES_RETENTION });
}

/** What discovery has to know of failures: a connection that is gone, one that is parked. */
export function discoveryListener(replica: () => Replica, signal: AbortSignal): Listener {
  const parked = new Set<ConnectionId>();
  return (event) => {
    if (event.type === 'failed' && event.error.verdict === 'park') {
      const { connectionId, error } = event;
      const { discovery } = replica();
      if (error.kind === 'not_found') discovery.notFound(connectionId);
      // Once: what the account's pairing is now belongs to the explanation.
      if (!parked.has(connectionId)) void discovery.pairings.followOne(connectionId, signal);
      parked.add(connectionId);
    } else if (event.type === 'lease_lost' || event.type === 'lease_returned') {
      // How it fares from then on is heard by whoever holds it next.
      parked.delete(event.connectionId);
      replica().discovery.found(event.connectionId);
    } else if (event.type === 'recovered' && parked.delete(event.connectionId)) {
      const { discovery } = replica();
      discovery.found(event.connectionId);
      void discovery.pairings.followOne(event.connectionId, signal);
    }
  };
}

export function gapListener(gaps: Bell): Listener {
  return (event) => {
    if (event.type === 'gap') gaps.ring();
  };
}

/** Messages may carry attachments: the archive looks at once. */
export function mediaListener(media: Bell): Listener {
  return (event) => {
    if (event.type === 'page' && event.tally.message.inserted + event.tally.message.updated > 0) media.ring();
  };
}

/** Says that the feed has grown, to whoever listens. */
export function changeListener(replica: () => Replica, log: Logger, signal: AbortSignal): Listener {
  const announce = async () => {
    const { control, settings } = replica();
    await announceChanges(control, settings.WA_REPLICA_SCHEMA);
  };
  return new ChangeBell(announce, log, signal).listen;
}

export function severalListeners(...listeners: readonly Listener[]): Listener {
  return (event) => {
    for (const listener of listeners) listener(event);
  };
}
