import type { Kysely } from 'kysely';
import type { ReplicaError } from '../errors/errors.ts';
import type { LedgerProblem } from '../store/ledger.ts';
import type { Database } from '../store/schema.ts';
import type { Cause, CountsByKind, ResumeAt } from '../store/verifications.ts';
import type { LookContext } from './look.ts';
import type { NoteContext } from './note.ts';
import type { ReaderContext } from './reader.ts';
import type { RepairContext } from './repair.ts';

/** What verifications need, whichever the connection. */
export interface VerifyContext extends LookContext, NoteContext, ReaderContext, RepairContext {
  readonly db: Kysely<Database>;
  /** Without limits: the ledger's check reads every key of a connection. */
  readonly maintenance: Kysely<Database>;
  /** The upstream's memory, RETENTION_WINDOW, in milliseconds. */
  readonly window: number;
  /** How far the upstream's lists may be behind its stream of changes, in milliseconds: what was replicated within that
   * time may be newer than they are. */
  readonly listsBehind: number;
}

/** What is wanted of a verification. */
export interface VerifyOrder {
  readonly cause: Cause;
  readonly repair: boolean;
  /** Only messages that were sent from then on. */
  readonly since?: Date | undefined;
  /** Go on with one that was interrupted, where there is one. */
  readonly resume?: boolean;
  /** Whether it may go on: false once the connection is another worker's. Asked before each page. */
  readonly mayGoOn?: () => boolean;
  readonly onProgress?: (progress: VerifyProgress) => void;
}

export interface VerifyProgress {
  readonly stage: ResumeAt['stage'];
  readonly conversations: number;
  readonly ofConversations: number;
  readonly requests: number;
  readonly counts: CountsByKind;
}

export interface VerifyResult {
  readonly state: 'finished' | 'interrupted' | 'failed';
  readonly counts: CountsByKind;
  readonly requests: number;
  readonly ledger: readonly LedgerProblem[];
  readonly error?: ReplicaError;
}
