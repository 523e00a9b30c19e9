import type { Kysely } from 'kysely';
import { MediaArchive } from '../media/archive.ts';
import type { MediaListener } from '../media/events.ts';
import { openMediaStore } from '../media/open-store.ts';
import type { MediaStore } from '../media/store.ts';
import { errorFields, type Logger } from '../ops/logger.ts';
import { mediaLog } from '../ops/media-log.ts';
import type { Replica } from '../replica/replica.ts';
import { openDatabase } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import { UpstreamClient } from '../upstream/client.ts';
import { VERSION } from '../version.ts';

/** The archive of attachments, put together. */
export interface Archiving {
  readonly archive: MediaArchive;
  readonly store: MediaStore;
  /** Its own, so that pages and leases never wait for it. */
  readonly db: Kysely<Database>;
  /** Closes pool and sockets. */
  close(): Promise<void>;
}

/** Connections to Postgres for attachments: their statements are short. */
const POOL_SIZE = 2;

/** How long one may be without an answer, in milliseconds. */
const SILENCE = 30_000;

/** @returns undefined with MEDIA_STORE=off. */
export async function openStore({ settings }: Pick<Replica, 'settings'>): Promise<MediaStore | undefined> {
  const { MEDIA_STORE: url, MEDIA_S3_ENDPOINT: endpoint, MEDIA_S3_REGION: region } = settings;
  return url === 'off'
    ? undefined
    : await openMediaStore(url, { endpoint, region, account: process.geteuid?.() });
}

/** Wires the archive to the replica, and what happens in it to the log; begins nothing yet.
 * @returns undefined with MEDIA_STORE=off. */
export async function openArchive(
  replica: Replica,
  listen: MediaListener,
  log: Logger,
): Promise<Archiving | undefined> {
  const { settings, databaseUrl, directory, admission, worker } = replica;
  const store = await openStore(replica);
  if (store === undefined) return undefined;
  const db = openDatabase({
    url: databaseUrl,
    schema: settings.WA_REPLICA_SCHEMA,
    poolSize: POOL_SIZE,
    applicationName: 'wa-replica media',
    onIdleError: (error) => log.debug(errorFields(error), 'an idle connection to Postgres ended'),
    silenceTimeout: SILENCE,
  });
  const upstream = new UpstreamClient({
    baseUrl: settings.WHATSAPP_USE_BASE_URL,
    requestTimeout: settings.REQUEST_TIMEOUT,
    maxSockets: settings.MEDIA_CONCURRENCY,
    userAgent: `wa-replica/${VERSION}`,
  });
  const tell = mediaLog(log);
  const archive = new MediaArchive({
    ...{ db, store, admission, upstream },
    listen(event) {
      listen(event);
      tell(event);
    },
    schema: settings.WA_REPLICA_SCHEMA,
    connections: () => directory.connections,
    concurrency: settings.MEDIA_CONCURRENCY,
    isBehind: () => worker.isBehind,
    maxBytes: settings.MEDIA_MAX_BYTES,
    timeout: settings.MEDIA_TIMEOUT,
    idleTimeout: settings.REQUEST_TIMEOUT,
    backoff: { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX },
    window: settings.RETENTION_WINDOW,
  });
  return {
    ...{ archive, store, db },
    async close() {
      store.close();
      await Promise.all([upstream.close(), db.destroy()]);
    },
  };
}
