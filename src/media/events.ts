import type { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId } from '../model.ts';

/** What happens while attachments are fetched. Durations in milliseconds. */
export type MediaEvent =
  | {
      readonly type: 'stored';
      readonly connectionId: ConnectionId;
      readonly bytes: number;
      readonly took: number;
    }
  /** There is none, or none any more; or it cannot be kept. */
  | {
      readonly type: 'gone';
      readonly connectionId: ConnectionId;
      readonly state: 'unavailable' | 'failed';
      readonly error: ReplicaError;
    }
  /** One is tried again later. */
  | { readonly type: 'again'; readonly connectionId: ConnectionId; readonly error: ReplicaError }
  /** Nothing is fetched of a connection for a while. */
  | {
      readonly type: 'held';
      readonly connectionId: ConnectionId;
      readonly error: ReplicaError;
      readonly failures: number;
      readonly retryIn: number;
    }
  | { readonly type: 'released'; readonly connectionId: ConnectionId; readonly failures: number }
  /** Nothing is fetched at all for a while: the store or the database is out of reach. */
  | {
      readonly type: 'stopped';
      readonly error: ReplicaError;
      readonly failures: number;
      readonly retryIn: number;
    }
  | { readonly type: 'resumed'; readonly failures: number };

export type MediaListener = (event: MediaEvent) => void;
