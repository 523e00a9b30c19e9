import type { Kysely } from 'kysely';
import type { Settings } from '../config/settings.ts';
import { schemaVersion } from '../store/migrator.ts';
import type { Database } from '../store/schema.ts';
import { type ConnectionStatus, readConnections, readWorkers, type WorkerStatus } from '../store/status.ts';
import { VERSION } from '../version.ts';

/** What `status --json` prints and `GET /status` answers; documented in docs/operations.md, and stable. */
export interface StatusReport {
  readonly version: string;
  /** The newest migration that the database has. */
  readonly schema_version: string | null;
  readonly workers: readonly WorkerStatus[];
  readonly connections: readonly ConnectionStatus[];
}

/** Reads the whole report. */
export async function readReport(db: Kysely<Database>, settings: StatusSettings): Promise<StatusReport> {
  const [version, workers, connections] = await Promise.all([
    schemaVersion(db, settings.WA_REPLICA_SCHEMA),
    readWorkers(db, settings.LEASE_TTL),
    readConnections(db, settings.RETENTION_WINDOW),
  ]);
  return { version: VERSION, schema_version: version.database ?? null, workers, connections };
}

/** The settings that a report depends on. */
export type StatusSettings = Pick<Settings, 'WA_REPLICA_SCHEMA' | 'LEASE_TTL' | 'RETENTION_WINDOW'>;
