import type { ReplicaError } from '../errors/errors.ts';
import type { ConnectionId, Kind, Tally } from '../model.ts';

/**
 * What happens while replicating. Loops report here and log nothing themselves; logs, metrics and progress bars
 * listen (`ops`, `cli`). Durations in milliseconds.
 */
export type SyncEvent =
  | {
      readonly type: 'page';
      readonly connectionId: ConnectionId;
      readonly cursor: bigint;
      readonly hasMore: boolean;
      readonly moved: boolean;
      readonly bytes: number;
      readonly partial: number;
      readonly quarantined: number;
      /** The same by kind; participants are a kind here. */
      readonly rejected: Partial<Record<string, number>>;
      readonly tally: Readonly<Record<Kind, Tally>>;
      /** Records that were not written, by why: their person was erased, or they are older than RETAIN_MESSAGES. */
      readonly suppressed: Readonly<Record<'erased' | 'expired', number>>;
      readonly requestTook: number;
      readonly applyTook: number;
    }
  /** A backlog of more than one page is done. */
  | {
      readonly type: 'caught_up';
      readonly connectionId: ConnectionId;
      readonly pages: number;
      readonly records: number;
      readonly took: number;
    }
  /** It caught up after the upstream's memory had passed: what lies between is lost (R17). */
  | { readonly type: 'gap'; readonly connectionId: ConnectionId; readonly from: Date; readonly to: Date }
  | {
      readonly type: 'failed';
      readonly connectionId: ConnectionId;
      readonly error: ReplicaError;
      readonly failures: number;
      readonly retryIn: number;
    }
  | { readonly type: 'recovered'; readonly connectionId: ConnectionId; readonly failures: number }
  /** The limit of a connection's requests was lowered. */
  | {
      readonly type: 'limit';
      readonly connectionId: ConnectionId;
      readonly limit: number;
      readonly reason: string;
    }
  | { readonly type: 'epoch'; readonly connectionId: ConnectionId; readonly reason: string }
  | { readonly type: 'fenced'; readonly connectionId: ConnectionId; readonly leaseLost: boolean }
  | { readonly type: 'lease_taken'; readonly connectionId: ConnectionId; readonly takenOver: boolean }
  | { readonly type: 'lease_lost'; readonly connectionId: ConnectionId }
  | { readonly type: 'lease_returned'; readonly connectionId: ConnectionId }
  /** Nobody holds it, and nobody can take it: somebody has locked its row for longer than a lease lasts. */
  | { readonly type: 'lease_locked'; readonly connectionId: ConnectionId; readonly looks: number }
  | { readonly type: 'connection_found'; readonly connectionId: ConnectionId }
  /** No key lists it any more; its data stays. */
  | { readonly type: 'connection_removed'; readonly connectionId: ConnectionId }
  /** The connection without a name has one now. */
  | { readonly type: 'connection_renamed'; readonly connectionId: ConnectionId }
  | { readonly type: 'discovery_failed'; readonly error: unknown }
  /** Keys beyond the first that list no connection. */
  | { readonly type: 'nameless_keys'; readonly keys: number }
  /** The worker's own duties (leases, heartbeat) fail or work again. */
  | { readonly type: 'worker_failed'; readonly error: ReplicaError; readonly failures: number }
  | { readonly type: 'worker_recovered'; readonly failures: number };

export type Listener = (event: SyncEvent) => void;
