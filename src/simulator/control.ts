/**
 * The control API, for tests and benchmarks in another process. Loopback only, no key. Bodies and answers are JSON;
 * int64 values are accepted as integers or as decimal strings, and written as integers.
 *
 * - `GET  /__simulator/truth?connection=ID[&served_only=1][&raw=1]` → JSON lines `{kind, id, seq, record}`
 * - `GET  /__simulator/stats` → `{total, served, most_in_flight, faults, connections: [{id, newest, …}]}`
 * - `POST /__simulator/faults` `{rates?: number | {kind: rate}, latency_ms?, per_second?, clear?: true}`
 * - `POST /__simulator/script` `{fault: {kind, …}, times?, connection?, route?}`: see `faults.ts`
 * - `POST /__simulator/grow` `{changes, connection?}` → `{connections: […]}`
 * - `POST /__simulator/traffic` `{changes_per_second}`: 0 stops
 * - `POST /__simulator/clock` `{advance_ms}`
 * - `POST /__simulator/raw` `{connection, kind, json}`: `{{seq}}` in the text becomes the record's seq
 * - `POST /__simulator/connection` `{connection, paired?, connected?, ready?, error?, restart_at?, ahead?,
 *   refuse?: {cursor, status} | null, stale?: {times, by} | null, shuffle?, repeat?}`: see `sync.ts`
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { KINDS, type Kind } from '../model.ts';
import type { Connection } from './connection.ts';
import type { Fault, FaultRates, Where } from './faults.ts';
import type { Simulator } from './server.ts';
import type { RefusalStatus, SyncManner } from './sync.ts';
import { parseExact, type TruthOptions } from './truth.ts';

type Body = Record<string, unknown>;

const REFUSALS: readonly RefusalStatus[] = [400, 409, 410];
const AHEAD: readonly SyncManner['ahead'][] = ['echo', 'lower', ...REFUSALS];

/** A request that the control API cannot make sense of. */
class ControlError extends Error {}

export async function control(
  simulator: Simulator,
  req: IncomingMessage,
  res: ServerResponse,
): Promise<void> {
  try {
    if (!isLoopback(req.socket.remoteAddress ?? '')) return reply(res, 404, '{"error":"not found"}');
    const url = new URL(req.url ?? '/', 'http://simulator');
    const name = `${req.method} ${url.pathname.slice('/__simulator/'.length)}`;
    if (name === 'GET truth') return await sendTruth(simulator, url.searchParams, res);
    if (name === 'GET stats') return reply(res, 200, statsText(simulator));
    const act = ACTIONS[name];
    if (!act) return reply(res, 404, '{"error":"not found"}');
    act(simulator, await readBody(req));
    reply(res, 200, statsText(simulator));
  } catch (error) {
    if (res.headersSent) res.destroy();
    else reply(res, 400, JSON.stringify({ error: error instanceof Error ? error.message : 'bad request' }));
  }
}

const ACTIONS: Readonly<Record<string, (simulator: Simulator, body: Body) => void>> = {
  'POST faults': ({ faults }, body) => {
    if (body.clear === true) faults.clear();
    if (body.rates !== undefined) faults.setRates(body.rates as number | FaultRates);
    if (body.latency_ms !== undefined) faults.latencyMs = number(body, 'latency_ms');
    if (body.per_second !== undefined) faults.perSecond = number(body, 'per_second');
  },
  'POST script': ({ faults }, body) => {
    const where: Where = {
      ...(typeof body.connection === 'string' && { connection: body.connection }),
      ...(typeof body.route === 'string' && { route: body.route }),
    };
    if (typeof body.fault !== 'object' || body.fault === null)
      throw new ControlError('fault must be an object');
    faults.script(body.fault as Fault, body.times === undefined ? 1 : number(body, 'times'), where);
  },
  'POST grow': ({ world }, body) => {
    world.applyChanges(number(body, 'changes'), body.connection as string | undefined);
  },
  'POST traffic': (simulator, body) => {
    simulator.startTraffic({ changesPerSecond: number(body, 'changes_per_second') });
  },
  'POST clock': ({ world }, body) => world.advance(number(body, 'advance_ms')),
  'POST raw': (simulator, body) => {
    const kind = oneOf(KINDS, body.kind);
    if (typeof body.json !== 'string') throw new ControlError('json must be a string');
    const text = body.json;
    connectionOf(simulator, body).injectRaw(kind, (seq) => text.replaceAll('{{seq}}', String(seq)));
  },
  'POST connection': (simulator, body) => {
    const connection = connectionOf(simulator, body);
    const { state, sync } = connection;
    if (body.paired !== undefined) state.paired = body.paired === true;
    if (body.connected !== undefined) state.connected = body.connected === true;
    if (body.ready !== undefined) state.ready = body.ready === true;
    if (body.error !== undefined) state.error = String(body.error);
    if (body.restart_at !== undefined) connection.restartNumbering(int64(body.restart_at));
    if (body.ahead !== undefined) sync.ahead = oneOf(AHEAD, body.ahead);
    if (body.shuffle !== undefined) sync.shuffle = body.shuffle === true;
    if (body.repeat !== undefined) sync.repeat = number(body, 'repeat');
    if (body.refuse !== undefined) {
      const refuse = body.refuse as Body | null;
      sync.refuse = refuse && { cursor: int64(refuse.cursor), status: oneOf(REFUSALS, refuse.status) };
    }
    if (body.stale !== undefined) {
      const stale = body.stale as Body | null;
      sync.stale = stale && { times: number(stale, 'times'), by: int64(stale.by) };
    }
  },
};

function statsText({ world, faults, stats }: Simulator): string {
  const connections = [...world.connections.values()].map((connection) => ({
    id: connection.id,
    newest: JSON.rawJSON(String(connection.newest)),
    contacts: connection.people.length,
    conversations: connection.conversations.length,
    messages: connection.messages.length,
  }));
  return JSON.stringify({ ...stats.toJSON(), faults: faults.struck, scripted: faults.scripted, connections });
}

async function sendTruth({ world }: Simulator, query: URLSearchParams, res: ServerResponse): Promise<void> {
  const id = query.get('connection') ?? '';
  world.connection(id);
  res.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const options = { servedOnly: query.get('served_only') === '1', raw: query.get('raw') === '1' };
  await pipeline(Readable.from(lines(world.truth(id, options satisfies TruthOptions))), res);
}

/** In pieces of some 64 KiB: one write a record would be slow. */
function* lines(truth: Iterable<{ kind: Kind; id: string; seq: bigint; json: string }>): Generator<string> {
  let piece = '';
  for (const { kind, id, seq, json } of truth) {
    piece += `{"kind":"${kind}","id":"${id}","seq":${seq},"record":${json}}\n`;
    if (piece.length < 65_536) continue;
    yield piece;
    piece = '';
  }
  if (piece !== '') yield piece;
}

function connectionOf({ world }: Simulator, body: Body): Connection {
  return world.connection(String(body.connection));
}

function oneOf<T>(allowed: readonly T[], value: unknown): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new ControlError(`one of ${allowed.join(', ')} is needed`);
  return found;
}

function number(body: Body, name: string): number {
  const value = body[name];
  if (typeof value !== 'number' || !Number.isFinite(value))
    throw new ControlError(`${name} must be a number`);
  return value;
}

function int64(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number' || typeof value === 'string') return BigInt(value);
  throw new ControlError('an int64 is needed');
}

async function readBody(req: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  const body = parseExact(Buffer.concat(chunks).toString() || '{}');
  if (typeof body !== 'object' || body === null) throw new ControlError('the body must be a JSON object');
  return body as Body;
}

function reply(res: ServerResponse, status: number, body: string): void {
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}

function isLoopback(address: string): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address);
}
