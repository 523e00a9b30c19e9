/**
 * The simulated upstream as an HTTP server: the read routes under `/v1`, and a control API under `/__simulator`
 * for other processes (see `control.ts`).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { control } from './control.ts';
import { deliver, faultAnswer, Timers } from './delivery.ts';
import { Faults } from './faults.ts';
import { KeptAnswers } from './kept-answers.ts';
import { DEFAULTS, type SimulatorOptions } from './options.ts';
import { populate } from './population.ts';
import { answer, target } from './routes.ts';
import { Stats } from './stats.ts';
import { startTicking, type Ticking } from './ticking.ts';
import { Webhooks } from './webhooks.ts';
import { World } from './world.ts';

export interface TrafficOptions {
  readonly changesPerSecond: number;
  /** Absent = the world's own course goes on. */
  readonly seed?: number;
}

export interface Simulator {
  /** Without a slash at its end. */
  readonly url: string;
  readonly port: number;
  readonly world: World;
  readonly faults: Faults;
  readonly stats: Stats;
  readonly webhooks: Webhooks;
  /** Lets the world change while it is served; one at a time, a second call replaces the first. */
  startTraffic(options: TrafficOptions): Ticking;
  /** Ends every connection, requests in hand included. */
  close(): Promise<void>;
}

/** A world with its connections populated and its keys added, as the options say. */
export function createWorld(options: Partial<SimulatorOptions> = {}): World {
  const all = { ...DEFAULTS, ...options };
  const world = new World(all.seed, all.now);
  const ids: readonly (string | undefined)[] =
    typeof all.connections === 'number' ? Array.from({ length: all.connections }) : all.connections;
  const now = world.now();
  ids.forEach((id, i) => {
    const connection = world.addConnection(id, all.startSeq ?? undefined);
    const messages = Math.floor(all.messages / ids.length) + (i < all.messages % ids.length ? 1 : 0);
    if (all.messages > 0) populate(connection, { messages, historyDays: all.historyDays, now });
  });
  for (const key of all.keys ?? [{ key: all.apiKey, meShape: all.meShape }]) world.addKey(key);
  return world;
}

/** Starts serving; resolves when the port is open. */
export async function startSimulator(options: Partial<SimulatorOptions> = {}): Promise<Simulator> {
  const all = { ...DEFAULTS, ...options };
  const world = all.world ?? createWorld(all);
  if (world.keys.size === 0) world.addKey({ key: all.apiKey, meShape: all.meShape });
  const faults = new Faults(all.seed);
  faults.setRates(all.faults);
  faults.latencyMs = all.latencyMs;
  const stats = new Stats();
  const timers = new Timers();
  let ticking: Ticking | null = null;

  const kept = new KeptAnswers(all.keepBytes);
  const webhooks = new Webhooks(all.seed, () => world.now());

  const serve = async (req: IncomingMessage, res: ServerResponse) => {
    const request = target(world, req.method ?? 'GET', req.url ?? '/', req.headers);
    const { connection } = request;
    const id = connection && 'id' in connection ? connection.id : '';
    const done = stats.begin(id);
    res.once('close', done);
    const drawn = faults.next(request.key?.key ?? '', id, request.route);
    const kind = drawn?.fault.kind ?? null;
    const entry = { route: request.route, connection: id, query: request.query.toString(), fault: kind };
    if (kind === 'drop' || kind === 'hang') {
      stats.record({ ...entry, status: 0 });
      if (kind === 'drop') req.socket.destroy();
      return;
    }
    let reply = drawn && faultAnswer(drawn, faults, world.now());
    if (request.route === 'webhooks') {
      reply ??= await webhooks.answer(request.key, req.method ?? 'GET', request.id, await text(req));
    }
    reply ??= answer(request, all, kept);
    stats.record({ ...entry, status: reply.status });
    deliver(res, reply, drawn, faults, timers, world.now());
  };

  const server = createServer((req, res) => {
    req.on('error', () => {});
    res.on('error', () => {});
    if (req.url?.startsWith('/__simulator/')) void control(simulator, req, res);
    else serve(req, res).catch(() => res.destroy());
  });
  // Longer than any client's pause between polls: a reused connection must not meet its end by chance.
  server.keepAliveTimeout = 120_000;

  const startTraffic = ({ changesPerSecond, seed }: TrafficOptions) => {
    ticking?.stop();
    if (seed !== undefined) world.reseed(seed);
    ticking = startTicking(changesPerSecond, (count) => world.applyChanges(count));
    return ticking;
  };

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(all.port, all.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const simulator: Simulator = {
    url: `http://${urlHost(all.host)}:${port}`,
    port,
    world,
    faults,
    stats,
    webhooks,
    startTraffic,
    close: () =>
      new Promise((resolve) => {
        ticking?.stop();
        timers.clear();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  if (all.live > 0) startTraffic({ changesPerSecond: all.live });
  return simulator;
}

function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}
