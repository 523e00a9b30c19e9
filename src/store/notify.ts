import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { codeOf } from '../errors/errors.ts';
import { Alarm } from '../lib/wait.ts';
import type { ConnectionId } from '../model.ts';
import { coded, PgClient } from './client.ts';
import type { Db } from './database.ts';

/*
 * NOTIFY between the processes on one database. It is a hint and nothing else: what it says is in the tables, and
 * is seen at the next renewal or poll without it.
 */

const CHANNEL = 'wa_replica';

type Hint =
  | { readonly due: readonly ConnectionId[] }
  | { readonly leases: true }
  | { readonly probe: string };

/** Bytes of ids in a payload, at most; Postgres takes payloads below 8,000. An id has 2,050 at the worst. */
const MOST_BYTES = 7_500;

async function send(db: Db, hints: readonly Hint[]): Promise<void> {
  const payloads = hints.map((hint) => JSON.stringify(hint));
  await sql`select pg_notify(${CHANNEL}, h.payload) from unnest(${payloads}::text[]) as h (payload)`.execute(
    db,
  );
}

/** Says that connections are due. */
export async function announceDue(db: Db, connectionIds: readonly ConnectionId[]): Promise<void> {
  const hints: { due: ConnectionId[] }[] = [];
  let room = 0;
  for (const id of connectionIds) {
    const bytes = Buffer.byteLength(JSON.stringify(id)) + 1;
    if (bytes > room) {
      hints.push({ due: [] });
      room = MOST_BYTES;
    }
    hints.at(-1)!.due.push(id);
    room -= bytes;
  }
  await send(db, hints);
}

/** Says that leases were given back. */
export async function announceLeases(db: Db): Promise<void> {
  await send(db, [{ leases: true }]);
}

/** The channel on which a schema's feed of changes is announced; a name has at most 63 bytes. */
export function changesChannel(schema: string): string {
  return `${schema.slice(0, 55)}_changes`;
}

/** Says that a schema's feed has grown. */
export async function announceChanges(db: Db, schema: string): Promise<void> {
  await sql`select pg_notify(${changesChannel(schema)}, '')`.execute(db);
}

export interface ListenerOptions {
  /** Undefined: libpq's variables. */
  readonly url: string | undefined;
  /** Sends the probe: another connection than the one that listens. */
  readonly db: Db;
  readonly onDue: (connectionIds: readonly ConnectionId[]) => void;
  readonly onLeases: () => void;
  /** Another channel to hear. */
  readonly also?: { readonly channel: string; readonly onNotice: () => void };
  /** It listens: everything missed while it did not is looked for now. */
  readonly onListening: () => void;
  /** The connection cannot be had, or hears nothing; told once per outage. */
  readonly onDeaf: (error: unknown) => void;
}

/** How long a probe may take, and the longest pause between attempts, in milliseconds. */
const PROBE_TIMEOUT = 5_000;
const MAX_PAUSE = 30_000;
/** How often the connection is tried, in milliseconds. */
const CHECK_EVERY = 30_000;

/** Of a probe that did not come back. */
export const NOT_HEARD = 'NOTIFY_NOT_HEARD';

/**
 * Listens on a dedicated connection until the signal, connecting again whenever it is lost. At each start it is
 * probed by a NOTIFY to itself through the pool: a pooler in transaction mode takes LISTEN and hears nothing.
 */
export async function listen(options: ListenerOptions, signal: AbortSignal): Promise<void> {
  let pause = 500;
  let told = false;
  while (!signal.aborted) {
    try {
      await listenOnce(options, signal, () => {
        pause = 500;
        told = false;
        options.onListening();
      });
    } catch (error) {
      if (signal.aborted) break;
      if (!told) options.onDeaf(error);
      told = true;
    }
    await new Alarm().sleep(pause, signal);
    pause = Math.min(pause * 2, MAX_PAUSE);
  }
}

/**
 * Whether a NOTIFY through `db` is heard by a LISTEN at `url`: a pooler in transaction mode takes the LISTEN and
 * hears nothing.
 * @throws what connecting throws.
 */
export async function probeListen(url: string | undefined, db: Db): Promise<boolean> {
  const ended = new AbortController();
  const options = { url, db, onDue: () => {}, onLeases: () => {}, onListening: () => {}, onDeaf: () => {} };
  let heard = false;
  try {
    await listenOnce(options, ended.signal, () => {
      heard = true;
      ended.abort();
    });
  } catch (error) {
    if (codeOf(error) !== NOT_HEARD) throw error;
  }
  return heard;
}

async function listenOnce(options: ListenerOptions, signal: AbortSignal, onHeard: () => void): Promise<void> {
  const client = new PgClient({
    ...(options.url === undefined ? {} : { connectionString: options.url }),
    application_name: 'wa-replica listen',
    connectionTimeoutMillis: 10_000,
    query_timeout: 10_000,
    keepAlive: true,
  });
  const ended = new AbortController();
  const end = () => ended.abort();
  signal.addEventListener('abort', end, { once: true });
  let failure: unknown;
  client.on('error', (error) => {
    failure = error;
    end();
  });
  client.on('end', end);
  const probe = randomUUID();
  const heard = new Alarm();
  client.on('notification', ({ channel, payload }) => {
    if (channel !== CHANNEL) return options.also?.onNotice();
    const hint = parse(payload);
    if (hint === undefined) return;
    if ('due' in hint) options.onDue(hint.due);
    else if ('leases' in hint) options.onLeases();
    else if (hint.probe === probe) heard.ring();
  });
  try {
    await client.connect();
    await client.query(`listen ${CHANNEL}`);
    if (options.also !== undefined)
      await client.query(`listen ${client.escapeIdentifier(options.also.channel)}`);
    await send(options.db, [{ probe }]);
    const result = await heard.sleep(PROBE_TIMEOUT, ended.signal);
    if (result === 'elapsed') throw coded(new Error('the probe did not come back'), NOT_HEARD);
    if (result === 'rung') {
      onHeard();
      // A half-open connection hears nothing and fails nothing until something is sent on it.
      while ((await heard.sleep(CHECK_EVERY, ended.signal)) !== 'aborted') await client.query('select 1');
    }
    if (failure !== undefined) throw failure;
  } finally {
    signal.removeEventListener('abort', end);
    client.end().catch(() => {});
  }
}

/** Anybody in the database can notify on this channel: what is none of our hints is none. */
function parse(payload: string | undefined): Hint | undefined {
  let value: unknown;
  try {
    value = JSON.parse(payload ?? '');
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { due, leases, probe } = value as Readonly<Record<string, unknown>>;
  if (Array.isArray(due)) return { due: due.filter((one) => typeof one === 'string') };
  if (leases === true) return { leases };
  return typeof probe === 'string' ? { probe } : undefined;
}
