import { afterEach, describe, expect, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import { populate } from '../../src/simulator/population.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { RequestEntry } from '../../src/simulator/stats.ts';
import { useFreshDatabase } from '../support/database.ts';
import { differencesFromTruth, quickSettings } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';
import { startWorker, type TestWorker } from '../support/worker.ts';

const database = useFreshDatabase({ migrated: true });
let simulator: Simulator;
let worker: TestWorker | undefined;

afterEach(async () => {
  await worker?.stop();
  worker = undefined;
  await simulator.close();
});

async function start(env: Record<string, string> = {}): Promise<void> {
  worker = await startWorker({ ...quickSettings(database.url, simulator.url), ...env }, { discovers: false });
}

const ids = (count: number) => Array.from({ length: count }, (_, place) => `conn_${place}`);
const agrees = async () => (await differencesFromTruth(database.db, simulator)).length === 0;
const syncs = () => simulator.stats.recent.filter(({ route }) => route === 'sync');
const syncsOf = (id: string) => syncs().filter(({ connection }) => connection === id);

/** When a request of the sync route was next answered with this status: a reading of the monotonic clock. */
function answered(status: number): Promise<number> {
  return new Promise((resolve) => {
    simulator.stats.onRequest = (entry) => {
      if (entry.route === 'sync' && entry.status === status) resolve(performance.now());
    };
  });
}

/** Of the requests between two of a connection's own, the most that any other one made. */
function mostBetweenTurns(requests: readonly RequestEntry[], id: string): number {
  let most = 0;
  let between = new Map<string, number>();
  for (const { connection } of requests) {
    if (connection === id) between = new Map();
    else {
      const count = (between.get(connection) ?? 0) + 1;
      between.set(connection, count);
      most = Math.max(most, count);
    }
  }
  return most;
}

describe('one connection never delays another by more than its share', () => {
  test('with backlogs they take turns, page by page, whoever has how much', async () => {
    simulator = await startSimulator({ connections: 0, messages: 0 });
    for (const [id, messages] of [
      ['conn_big', 800],
      ['conn_small', 100],
      ['conn_other', 300],
    ] as const) {
      populate(simulator.world.addConnection(id), { messages, historyDays: 20, now: Date.now() });
    }
    // A request takes much of the time that writing a page does, on a busy machine, too.
    simulator.faults.latencyMs = 30;
    await start({ MAX_CONCURRENCY: '1', PAGE_LIMIT: '20', PAGE_LIMIT_MAX: '20', POLL_INTERVAL: '1h' });
    await waitFor(agrees, { what: 'the backlogs' });
    const small = syncsOf('conn_small').length;
    expect(small).toBeGreaterThan(5);
    const from = syncs().findIndex(({ connection }) => connection === 'conn_small');
    const to = syncs().findLastIndex(({ connection }) => connection === 'conn_small');
    // While its own page is being written it asks for nothing, and the others may ask again.
    expect(mostBetweenTurns(syncs().slice(from, to + 1), 'conn_small')).toBeLessThanOrEqual(6);
    expect(syncsOf('conn_big').length).toBeGreaterThan(5 * small);
  });

  test('one that hangs holds one request, and the others go on beside it', async () => {
    simulator = await startSimulator({ connections: ids(4), messages: 400 });
    simulator.faults.script({ kind: 'hang' }, 1_000, { connection: 'conn_0', route: 'sync' });
    await start({ MAX_CONCURRENCY: '2', REQUEST_TIMEOUT: '1h', PAGE_LIMIT: '20' });
    const others = ids(4).slice(1);
    await waitFor(() => others.every((id) => syncsOf(id).length > 20), { what: 'the others' });
    expect(syncsOf('conn_0')).toHaveLength(1);
    expect(simulator.stats.inFlight('conn_0')).toBe(1);
  });

  test.each<[string, Fault]>([
    ['fails', { kind: 'internal' }],
    ['is refused', { kind: 'answer', status: 401 }],
    ['answers garbage', { kind: 'html' }],
  ])('one that %s is left to its own backoff', async (_, fault) => {
    simulator = await startSimulator({ connections: ids(3), messages: 300 });
    simulator.faults.script(fault, 100_000, { connection: 'conn_0', route: 'sync' });
    // Full jitter may make several attempts in a short time: these are few in the time of a slow page of another's.
    await start({ MAX_CONCURRENCY: '1', BACKOFF_MIN: '100ms', BACKOFF_MAX: '1s' });
    await waitFor(() => ['conn_1', 'conn_2'].every((id) => syncsOf(id).length > 20), { what: 'the others' });
    // It comes back sooner or later, but never more often than they are asked.
    expect(syncsOf('conn_0').length).toBeGreaterThan(0);
    expect(mostBetweenTurns(syncs(), 'conn_1')).toBeLessThanOrEqual(6);
    expect(worker!.told('failed').every((id) => id === 'conn_0')).toBe(true);
  });
});

describe('requests in flight', () => {
  test('are at most MAX_CONCURRENCY, and one of each connection', async () => {
    simulator = await startSimulator({ connections: ids(12), messages: 3_600 });
    simulator.faults.latencyMs = 15;
    await start({
      MAX_CONCURRENCY: '3',
      PAGE_LIMIT: '20',
      PAGE_LIMIT_MAX: '20',
      DISCOVERY_INTERVAL: '200ms',
    });
    await waitFor(agrees, { what: 'the backlogs' });
    // The pairing is followed meanwhile, by requests like any other.
    const held = worker!.worker.held;
    await Promise.all([
      worker!.discovery.pairings.follow(held, 200, new AbortController().signal),
      waitFor(() => syncs().length > 150, { what: 'polls' }),
    ]);
    const { '': all, ...each } = simulator.stats.mostInFlight;
    expect(all).toBe(3);
    expect(new Set(Object.values(each))).toEqual(new Set([1]));
    expect(simulator.stats.recent.filter(({ route }) => route === 'status')).toHaveLength(12);
  });

  test('are spaced to REQUEST_RATE for each key, by all workers together', async () => {
    const keys = [
      { key: 'pa_live_one', connections: ids(8).slice(0, 4) },
      { key: 'pa_live_two', connections: ids(8).slice(4) },
    ];
    simulator = await startSimulator({ connections: ids(8), messages: 0, keys });
    const at: { key: string; ms: number }[] = [];
    simulator.stats.onRequest = ({ connection, route }) => {
      if (route === 'sync') at.push({ key: connection < 'conn_4' ? 'one' : 'two', ms: performance.now() });
    };
    const of = (key: string) => at.filter((one) => one.key === key);
    // A worker that is not heard of in time would count for none.
    const env = { WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two', REQUEST_RATE: '20', LEASE_TTL: '5s' };
    /** How long it took to make `count` more requests of each key, in milliseconds. */
    const spans = async (count: number) => {
      at.length = 0;
      await waitFor(() => of('one').length > count && of('two').length > count, { what: 'polls' });
      return ['one', 'two'].map((key) => of(key)[count]!.ms - of(key)[0]!.ms);
    };
    // 20 a second, but for a first request that is served late. Without a bound it would be half of the time.
    const least = (40 / 20) * 1_000 - 200;
    await start(env);
    for (const span of await spans(40)) expect(span).toBeGreaterThan(least);
    const other = await startWorker(
      { ...quickSettings(database.url, simulator.url), ...env },
      { discovers: false },
    );
    try {
      await waitFor(() => worker!.worker.size === 4 && other.worker.size === 4, { what: 'equal shares' });
      for (const span of await spans(40)) expect(span).toBeGreaterThan(least);
    } finally {
      await other.stop();
    }
  });
});

describe('a key that is rate-limited', () => {
  test('slows down its own connections only', async () => {
    const mine = ids(12).slice(0, 6);
    const keys = [
      { key: 'pa_live_one', connections: mine },
      { key: 'pa_live_two', connections: ids(12).slice(6) },
    ];
    simulator = await startSimulator({ connections: ids(12), messages: 0, keys });
    await start({
      WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two',
      MAX_CONCURRENCY: '2',
      BACKOFF_MAX: '1s',
    });
    await waitFor(() => syncs().length > 50, { what: 'polls' });
    const refused = answered(429);
    simulator.faults.script({ kind: 'rate_limited', retryAfter: 3, asDate: false }, 1, {
      connection: 'conn_0',
    });
    const limited = () => syncs().findIndex(({ status }) => status === 429);
    const since = await refused;
    const later = () => syncs().slice(limited() + 1);
    const ofMine = () => later().filter(({ connection }) => mine.includes(connection));
    // What was under way at that moment may still be answered: MAX_CONCURRENCY less one.
    await waitFor(() => ofMine().length > 1, { what: 'its coming back' });
    expect(performance.now() - since).toBeGreaterThanOrEqual(3_000);
    expect(later().length).toBeGreaterThan(30);
  });

  test('comes back with one probe and a ramp', async () => {
    simulator = await startSimulator({ connections: 0, messages: 0 });
    for (const id of ids(6)) {
      populate(simulator.world.addConnection(id), { messages: 1_500, historyDays: 20, now: Date.now() });
    }
    simulator.faults.latencyMs = 100;
    await start({ MAX_CONCURRENCY: '6', PAGE_LIMIT: '20', PAGE_LIMIT_MAX: '20' });
    await waitFor(() => simulator.stats.mostInFlight[''] === 6, { what: 'six at a time' });
    simulator.faults.script({ kind: 'rate_limited', retryAfter: 1, asDate: false }, 6, { route: 'sync' });
    await waitFor(() => simulator.faults.scripted === 0 && simulator.stats.inFlight() === 0, {
      what: 'the refusals',
    });
    // Long enough for what is under way together to be seen together.
    simulator.faults.latencyMs = 250;
    const flights: number[] = [];
    simulator.stats.onRequest = ({ route }) => {
      if (route === 'sync') flights.push(simulator.stats.inFlight());
    };
    await waitFor(() => flights.length > 30, { what: 'its coming back' });
    // One; after it two; after them four.
    expect(flights[0]).toBe(1);
    expect(Math.max(...flights.slice(0, 3))).toBe(2);
    expect(Math.max(...flights.slice(0, 7))).toBeLessThanOrEqual(4);
    expect(Math.max(...flights)).toBeGreaterThan(4);
  });
});

describe('Retry-After', () => {
  test('of a 5xx is a floor for that connection, whatever events come meanwhile', async () => {
    simulator = await startSimulator({ connections: ids(2), messages: 0 });
    await start({ BACKOFF_MAX: '1h', POLL_INTERVAL: '100ms', POLL_INTERVAL_IDLE: '100ms' });
    await waitFor(() => ids(2).every((id) => syncsOf(id).length > 3), { what: 'polls' });
    const refused = answered(503);
    simulator.faults.script({ kind: 'unavailable', retryAfter: 4, asDate: false }, 1, {
      connection: 'conn_0',
    });
    const refusedAt = await refused;
    const before = syncsOf('conn_1').length;
    await waitFor(
      () => {
        worker!.worker.wake('conn_0');
        worker!.worker.wake('conn_1');
        return syncsOf('conn_0').at(-1)?.status === 200;
      },
      { what: 'its coming back', everyMs: 5 },
    );
    expect(performance.now() - refusedAt).toBeGreaterThanOrEqual(4_000);
    // The other one is polled whenever it may be, and events come every 5 ms: ten times a second.
    const polls = syncsOf('conn_1').length - before;
    expect(polls).toBeGreaterThan(10);
    expect(polls).toBeLessThan(3 + (performance.now() - refusedAt) / 90);
  });

  test('or not: many events do not make many attempts at what fails', async () => {
    simulator = await startSimulator({ connections: ids(1), messages: 0 });
    simulator.faults.script({ kind: 'answer', status: 402 }, 1_000, { route: 'sync' });
    await start({ BACKOFF_MIN: '100ms', BACKOFF_MAX: '1h' });
    const since = performance.now();
    await waitFor(
      () => {
        worker!.worker.wake('conn_0');
        return syncs().length >= 5;
      },
      { what: 'attempts', everyMs: 5 },
    );
    // After 0, 100, 200, 300 and 400 ms, and not in an hour.
    expect(performance.now() - since).toBeGreaterThan(900);
  });
});
