/** One of everything that is told: each event, in each way in which it is told, and a status with every field. */
import { type ErrorKind, ReplicaError } from '../../src/errors/errors.ts';
import type { MediaEvent } from '../../src/media/events.ts';
import { emptyTally } from '../../src/model.ts';
import type { StatusReport } from '../../src/ops/status.ts';
import type { SyncEvent } from '../../src/sync/events.ts';

/** A status of one connection and one worker; the types say that nothing is missing. */
export const REPORT: StatusReport = {
  version: '0.1.0',
  schema_version: null,
  workers: [{ worker_id: 'w', started_at: '', heartbeat_at: '', version: null, host: null, connections: 1 }],
  connections: [
    {
      connection_id: 'conn_a',
      state: 'live',
      epoch: 1,
      cursor: '7',
      caught_up_at: null,
      lag_seconds: 1,
      window_left_seconds: 2,
      consecutive_failures: 0,
      last_error_kind: null,
      last_error: null,
      worker: null,
      rows: { conversations: '0', contacts: '0', messages: '0' },
      quarantined: '0',
      gaps: '0',
      window_alarm: null,
      verification: {
        finished_at: '2026-11-24T03:17:00.000Z',
        state: 'finished',
        checked: '1',
        drift: '0',
        remaining: '0',
        ledger_problems: 0,
        error_kind: null,
        error: null,
      },
    },
  ],
};

const connectionId = 'conn_a';
const failed = (kind: ErrorKind, failures: number): SyncEvent => ({
  type: 'failed',
  connectionId,
  error: new ReplicaError(kind, { where: 'here', code: 'X' }),
  failures,
  retryIn: 500,
});

/** Every event there is, in each way in which it is told; the type says that none is missing. */
export const EVENTS: { readonly [T in SyncEvent['type']]: readonly Extract<SyncEvent, { type: T }>[] } = {
  page: [
    {
      type: 'page',
      connectionId,
      cursor: 7n,
      hasMore: false,
      moved: true,
      bytes: 1,
      partial: 0,
      quarantined: 1,
      rejected: { message: 1 },
      tally: {
        conversation: emptyTally(),
        contact: emptyTally(),
        message: { ...emptyTally(), inserted: 1 },
      },
      suppressed: { erased: 1, expired: 1 },
      requestTook: 1,
      applyTook: 1,
    },
  ],
  caught_up: [{ type: 'caught_up', connectionId, pages: 2, records: 3, took: 4 }],
  gap: [{ type: 'gap', connectionId, from: new Date(0), to: new Date(1) }],
  failed: [
    failed('network', 1),
    failed('network', 4),
    failed('network', 8),
    failed('not_paired', 16),
  ] as Extract<SyncEvent, { type: 'failed' }>[],
  recovered: [{ type: 'recovered', connectionId, failures: 1 }],
  limit: [{ type: 'limit', connectionId, limit: 1, reason: 'timeout' }],
  epoch: [{ type: 'epoch', connectionId, reason: 'anew' }],
  fenced: [{ type: 'fenced', connectionId, leaseLost: true }],
  lease_taken: [
    { type: 'lease_taken', connectionId, takenOver: true },
    { type: 'lease_taken', connectionId, takenOver: false },
  ],
  lease_lost: [{ type: 'lease_lost', connectionId }],
  lease_locked: [{ type: 'lease_locked', connectionId, looks: 1 }],
  lease_returned: [{ type: 'lease_returned', connectionId }],
  connection_found: [{ type: 'connection_found', connectionId }],
  connection_removed: [{ type: 'connection_removed', connectionId }],
  connection_renamed: [{ type: 'connection_renamed', connectionId }],
  discovery_failed: [{ type: 'discovery_failed', error: new Error('no') }],
  nameless_keys: [{ type: 'nameless_keys', keys: 2 }],
  worker_failed: [1, 2].map((failures) => ({
    type: 'worker_failed',
    error: new ReplicaError('database', { where: 'here' }),
    failures,
  })),
  worker_recovered: [{ type: 'worker_recovered', failures: 1 }],
};

const hindered = (kind: ErrorKind) => new ReplicaError(kind, { where: 'here', code: 'X' });

/** The same of attachments. */
export const MEDIA_EVENTS: {
  readonly [T in MediaEvent['type']]: readonly Extract<MediaEvent, { type: T }>[];
} = {
  stored: [{ type: 'stored', connectionId, bytes: 1, took: 1 }],
  gone: (['unavailable', 'failed'] as const).map((state) => ({
    type: 'gone',
    ...{ connectionId, state, error: hindered('oversize') },
  })),
  again: [{ type: 'again', connectionId, error: hindered('network') }],
  held: [{ type: 'held', connectionId, error: hindered('not_ready'), failures: 1, retryIn: 1 }],
  released: [{ type: 'released', connectionId, failures: 1 }],
  stopped: [{ type: 'stopped', error: hindered('media_store'), failures: 1, retryIn: 1 }],
  resumed: [{ type: 'resumed', failures: 1 }],
};
