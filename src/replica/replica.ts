import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Kysely } from 'kysely';
import pLimit from 'p-limit';
import type { Environment } from '../config/load.ts';
import type { Settings } from '../config/settings.ts';
import { sleep } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { cutOff, openDatabase } from '../store/database.ts';
import type { Database } from '../store/schema.ts';
import type { TransactionLimits } from '../store/transaction.ts';
import { Admission } from '../sync/admission.ts';
import type { Reached } from '../sync/crash-points.ts';
import { Directory } from '../sync/directory.ts';
import { Discovery, REMOVAL, type Removal } from '../sync/discovery.ts';
import type { Listener } from '../sync/events.ts';
import type { LoopContext } from '../sync/loop.ts';
import { Worker, type WorkerOptions } from '../sync/worker.ts';
import { type ApiKey, fixedKey, keyInFile } from '../upstream/api-key.ts';
import { UpstreamClient } from '../upstream/client.ts';
import { VERSION } from '../version.ts';
import { writingOf } from './writing.ts';

/** Everything that replicates, put together from the settings; the commands take what they need of it. */
export interface Replica {
  readonly settings: Settings;
  /** Where LISTEN goes: undefined for libpq's variables. */
  readonly databaseUrl: string | undefined;
  readonly db: Kysely<Database>;
  /** Small and apart, so that page work cannot keep leases and wake-ups waiting. */
  readonly control: Kysely<Database>;
  /** For whoever looks at the replica from outside, so that looks keep neither leases nor pages waiting. */
  readonly looks: Kysely<Database>;
  /** Without limits, for what may take long: migrations, indexes, renaming. Opened at first use. */
  readonly maintenance: Kysely<Database>;
  readonly upstream: UpstreamClient;
  readonly directory: Directory;
  readonly discovery: Discovery;
  readonly admission: Admission;
  readonly worker: Worker;
  readonly workerOptions: WorkerOptions;
  /** Of transactions that lock a state row. */
  readonly limits: TransactionLimits;
  readonly reached: Reached;
  /** Closes pools and sockets. What is under way has so many milliseconds to end, and is cut off then. */
  close(patience?: number): Promise<void>;
}

export interface Wiring {
  readonly settings: Settings;
  readonly env: Environment;
  /** In place of DATABASE_URL. */
  readonly databaseUrl?: string | undefined;
  readonly listen: Listener;
  readonly onIdleError: (error: unknown) => void;
  readonly reached?: Reached;
  /** When a connection that is not listed counts as removed; as the contract says (R21) where absent. */
  readonly removal?: Removal;
}

/** What a statement's answer may take beyond its limits before its connection is cut, in milliseconds. */
const SILENCE_MARGIN = 2_000;

/** How long a look may be without an answer from Postgres, in milliseconds: whoever looks has little patience. */
const LOOK_TIMEOUT = 4_000;

/** How long pools and sockets may take to close, at most, in milliseconds. */
const CLOSE_TIMEOUT = 1_000;

/** How long telling Postgres may take that nobody waits any more, in milliseconds: a part of the last moments. */
const CUT_TIMEOUT = 200;

/** What else the end of the process takes, in milliseconds. */
const LAST_MOMENTS = 500;

/** Puts the parts together; opens no connection yet. */
export function assemble({
  settings,
  env,
  databaseUrl,
  listen,
  onIdleError,
  reached = () => {},
  removal = REMOVAL,
}: Wiring): Replica {
  const url = databaseUrl ?? settings.DATABASE_URL;
  const leaseTtl = settings.LEASE_TTL;
  const pool = (poolSize: number, purpose: string, silenceTimeout?: number) =>
    openDatabase({
      url,
      schema: settings.WA_REPLICA_SCHEMA,
      poolSize,
      applicationName: `wa-replica ${purpose}`,
      onIdleError,
      ...(silenceTimeout === undefined ? {} : { silenceTimeout }),
    });
  const db = pool(settings.DB_POOL_SIZE, 'pages', leaseTtl + SILENCE_MARGIN);
  const control = pool(2, 'leases', leaseTtl + SILENCE_MARGIN);
  const looks = pool(2, 'looks', LOOK_TIMEOUT);
  const maintenance = pool(2, 'maintenance');
  const { upstream, keys } = openUpstream(settings, env);
  const directory = new Directory(keys, givenConnections(settings));
  const info = {
    workerId: `${hostname()}-${randomBytes(4).toString('hex')}`,
    version: VERSION,
    host: hostname(),
  };
  const admission = new Admission({
    concurrency: settings.MAX_CONCURRENCY,
    rate: settings.REQUEST_RATE,
    // Room for the largest single answer (R19), whatever the number of connections.
    budget: settings.MAX_RESPONSE_BYTES * 4,
    backoff: { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX },
    keyOf: (connectionId) => directory.keyOf(connectionId),
  });
  // Below LEASE_TTL, so that the lock of a frozen worker ends before its lease does (R15).
  const limits = { statementTimeout: Math.floor(leaseTtl * 0.8), idleTimeout: Math.floor(leaseTtl * 0.5) };
  const context: LoopContext = {
    db,
    worker: info.workerId,
    leaseTtl,
    window: settings.RETENTION_WINDOW,
    limits,
    ...writingOf(settings),
    upstream,
    settings: {
      pollInterval: settings.POLL_INTERVAL,
      pollIntervalIdle: settings.POLL_INTERVAL_IDLE,
      backoff: { min: settings.BACKOFF_MIN, max: settings.BACKOFF_MAX },
      pageLimit: settings.PAGE_LIMIT,
      pageLimitMax: settings.PAGE_LIMIT_MAX,
      maxResponseBytes: settings.MAX_RESPONSE_BYTES,
    },
    resetConfirm: settings.RESET_CONFIRM,
    admission,
    writes: pLimit(settings.DB_POOL_SIZE),
    reached,
    listen,
  };
  // SHUTDOWN_TIMEOUT is for the whole end (R16): what comes after the drain is taken off it.
  const shutdown = settings.SHUTDOWN_TIMEOUT;
  const closeTimeout = Math.min(CLOSE_TIMEOUT, shutdown / 4);
  const shutdownTimeout = Math.max(shutdown / 2, shutdown - closeTimeout - LAST_MOMENTS);
  const workerOptions = { info, leaseTtl, shutdownTimeout, control };
  const worker = new Worker(context, workerOptions);
  return {
    settings,
    databaseUrl: url,
    db,
    control,
    looks,
    maintenance,
    upstream,
    directory,
    discovery: new Discovery({ db, maintenance, upstream, admission, directory, listen, removal }),
    admission,
    worker,
    workerOptions,
    limits,
    reached,
    async close(patience = closeTimeout) {
      const pools = [db, control, looks, maintenance];
      const closed = Promise.allSettled([...pools.map((one) => one.destroy()), upstream.close()]);
      // A pool waits for its queries, and a server that is out of reach never ends them.
      if (await within(patience, closed)) return;
      await within(CUT_TIMEOUT, Promise.all(pools.map(cutOff)));
    },
  };
}

/** Whether the work ends within so many milliseconds. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  const ended = new AbortController();
  const done = work.then(() => true);
  const late = sleep(ms, ended.signal).then(() => false);
  try {
    return await Promise.race([done, late]);
  } finally {
    ended.abort();
  }
}

/** The upstream and the keys for it; all that a command needs which leaves the database alone. */
export function openUpstream(
  settings: Settings,
  env: Environment,
): { readonly upstream: UpstreamClient; readonly keys: readonly ApiKey[] } {
  const upstream = new UpstreamClient({
    baseUrl: settings.WHATSAPP_USE_BASE_URL,
    requestTimeout: settings.REQUEST_TIMEOUT,
    maxSockets: settings.MAX_CONCURRENCY,
    userAgent: `wa-replica/${VERSION}`,
  });
  const file = env.WHATSAPP_USE_API_KEY_FILE;
  const keys = (settings.WHATSAPP_USE_API_KEY ?? []).map((key, place) =>
    file === undefined ? fixedKey(key) : keyInFile(file, place, key),
  );
  return { upstream, keys };
}

export function givenConnections(settings: Settings): readonly ConnectionId[] | undefined {
  const ids = settings.WHATSAPP_USE_CONNECTION_IDS;
  return ids.length === 1 && ids[0] === 'auto' ? undefined : ids;
}
