import type { Kysely } from 'kysely';
import { schemaVersion } from '../store/migrator.ts';
import type { Database } from '../store/schema.ts';
import { type ConnectionStatus, readConnections, readWorkers, type WorkerStatus } from '../store/status.ts';
import { VERSION } from '../version.ts';

/** What `status --json` prints and `GET /status` answers; its form is stable (docs/operations.md). */
export interface StatusReport {
  readonly version: string;
  /** The newest migration that the database has. */
  readonly schema_version: string | null;
  readonly workers: readonly WorkerStatus[];
  readonly connections: readonly ConnectionStatus[];
}

/** Reads the whole report. */
export async function readReport(db: Kysely<Database>, options: ReportOptions): Promise<StatusReport> {
  const [version, workers, connections] = await Promise.all([
    schemaVersion(db, options.schema),
    readWorkers(db, options.leaseTtl),
    readConnections(db, options.window),
  ]);
  return { version: VERSION, schema_version: version.database ?? null, workers, connections };
}

/** What a report depends on. Durations in milliseconds. */
export interface ReportOptions {
  readonly schema: string;
  readonly leaseTtl: number;
  /** RETENTION_WINDOW. */
  readonly window: number;
}
