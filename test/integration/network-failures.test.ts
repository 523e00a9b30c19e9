import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Fault } from '../../src/simulator/faults.ts';
import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { type Simulator, startSimulator } from '../../src/simulator/server.ts';
import type { SyncEvent } from '../../src/sync/events.ts';
import { supervise } from '../../src/sync/supervisor.ts';
import { useTestDatabase } from '../support/database.ts';
import { createReplica, differencesFromTruth, quickSettings, type TestReplica } from '../support/replica.ts';
import { waitFor } from '../support/wait.ts';

/* What a network or an upstream may do wrong: nothing is written of it, the cursor stays, and then it goes on. */

const database = useTestDatabase({ migrated: true });
let simulator: Simulator;
let replica: TestReplica;
let stop: () => Promise<void>;

/** Ends what {@link replicate} began, and leaves empty tables. */
async function end(): Promise<void> {
  simulator.faults.clear();
  await stop();
  await simulator.close();
  await database.query(`truncate whatsapp.connections, whatsapp.sync_state, whatsapp.sync_pages, whatsapp.messages,
    whatsapp.message_revisions, whatsapp.conversations, whatsapp.conversation_participants, whatsapp.contacts`);
}

/** Replicates a world in this process until {@link end}; resolves when it has caught up. */
async function replicate(
  env: Record<string, string> = {},
  world: Partial<SimulatorOptions> = { connections: 1, messages: 100 },
): Promise<void> {
  simulator = await startSimulator(world);
  replica = await createReplica({ ...quickSettings(database.url, simulator.url), ...env });
  const ending = new AbortController();
  const { worker, workerOptions, directory } = replica;
  const running = supervise(worker, workerOptions, () => directory.connections, 0, ending.signal);
  stop = async () => {
    ending.abort();
    await running;
    await replica.close();
  };
  await agreed();
}

const agreed = () =>
  waitFor(async () => (await differencesFromTruth(database.db, simulator)).length === 0, {
    what: 'the tables to equal the truth',
  });

/** All that a page writes. */
const written = async () => ({
  state: await database.query(
    'select epoch, numbering, cursor, stored_messages from whatsapp.sync_state order by 1, 2, 3',
  ),
  pages: await database.query('select count(*) from whatsapp.sync_pages'),
  messages: await database.query('select message_id, seq, xmin from whatsapp.messages order by 1, 2'),
  quarantine: await database.query('select * from whatsapp.quarantine'),
});

const caughtUpAt = () => database.query('select caught_up_at from whatsapp.sync_state');

const failures = () =>
  replica.events.filter((event): event is Extract<SyncEvent, { type: 'failed' }> => event.type === 'failed');

/** Something changes upstream, every answer is faulty from then on, and then none is any more. */
async function expectNothingUntilHealed(fault: Fault, kind: string, times = 3): Promise<void> {
  replica.events.length = 0;
  const before = await written();
  // In one go, so that no answer in between is whole.
  simulator.faults.script(fault, 1_000_000, { route: 'sync' });
  simulator.world.applyChanges(30);
  const failed = (n: number) => waitFor(() => failures().length >= n, { what: `${n} failures` });
  await failed(1);
  const lastGood = await caughtUpAt();
  await failed(times);
  expect(await written()).toEqual(before);
  expect(await caughtUpAt()).toEqual(lastGood);
  expect(new Set(failures().map(({ error }) => error.kind))).toEqual(new Set([kind]));
  const shown = await database.query('select last_error_kind, consecutive_failures from whatsapp.sync_state');
  expect(shown[0]).toMatchObject({ last_error_kind: kind });
  simulator.faults.clear();
  await agreed();
  await waitFor(() => replica.events.some(({ type }) => type === 'recovered'), { what: 'it to say so' });
}

interface Seen {
  readonly connection: string;
  readonly fault: string | null;
  /** A reading of the monotonic clock, in milliseconds. */
  readonly at: number;
}

/** The requests of the sync route from now on. */
function watchRequests(): Seen[] {
  const seen: Seen[] = [];
  simulator.stats.onRequest = ({ route, connection, fault }) => {
    if (route === 'sync') seen.push({ connection, fault, at: performance.now() });
  };
  return seen;
}

/** When requests of the sync route begin, from now on. */
function watchBeginnings(): Omit<Seen, 'fault'>[] {
  const begun: Omit<Seen, 'fault'>[] = [];
  const { upstream } = replica;
  const fetchPage = upstream.fetchPage.bind(upstream);
  upstream.fetchPage = (key, connection, ...rest) => {
    begun.push({ connection, at: performance.now() });
    return fetchPage(key, connection, ...rest);
  };
  return begun;
}

const gaps = (seen: readonly Pick<Seen, 'at'>[]) => seen.slice(1).map(({ at }, i) => at - seen[i]!.at);

const broken: readonly [string, Fault, string][] = [
  ['a connection that ends before the answer', { kind: 'drop' }, 'network'],
  ['a cut answer', { kind: 'cut' }, 'network'],
  ['truncated JSON of the right length', { kind: 'truncate' }, 'protocol'],
  ['HTML with status 200', { kind: 'html' }, 'protocol'],
  ['an empty 200', { kind: 'answer', status: 200 }, 'protocol'],
  ['a 204', { kind: 'answer', status: 204 }, 'protocol'],
  ['a page without a cursor', { kind: 'answer', status: 200, body: '{"messages":[]}' }, 'protocol'],
  [
    'messages that are no array',
    { kind: 'answer', status: 200, body: '{"cursor":1,"messages":{}}' },
    'protocol',
  ],
  ['a lower cursor', { kind: 'answer', status: 200, body: '{"cursor":1,"has_more":false}' }, 'protocol'],
  ['a 500', { kind: 'internal' }, 'upstream'],
  ['a 502', { kind: 'bad_gateway' }, 'not_ready'],
  ['a 503', { kind: 'unavailable' }, 'not_ready'],
];
describe('what is no page', () => {
  // There is room for four answers: it is given back, whatever came.
  beforeAll(() => replicate({ MAX_RESPONSE_BYTES: '256KiB' }));
  afterAll(end);

  test.each(broken)('%s', (_, fault, kind) => expectNothingUntilHealed(fault, kind));

  test('a redirect is not followed: the key goes nowhere else', async () => {
    let asked = 0;
    const elsewhere = createServer((_, res) => {
      asked++;
      res.end('{"cursor":1,"has_more":false}');
    });
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const location = `http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/v1/whatsapp/sync`;
    try {
      await expectNothingUntilHealed({ kind: 'answer', status: 301, headers: { location } }, 'protocol');
      expect(asked).toBe(0);
    } finally {
      elsewhere.close();
    }
  });
});

const REQUEST_TIMEOUT = 300;
const slow: readonly [string, Fault][] = [
  ['a hang', { kind: 'hang' }],
  ['a byte now and then', { kind: 'trickle', bytes: 1, delayMs: 50 }],
];
const KEYS = {
  connections: ['a', 'b', 'c', 'other'],
  messages: 100,
  keys: [
    { key: 'pa_live_one', connections: ['a', 'b', 'c'] },
    { key: 'pa_live_two', connections: ['other'] },
  ],
};

describe('what takes time or room', () => {
  afterEach(end);

  test.each(slow)('%s ends at REQUEST_TIMEOUT', async (_, fault) => {
    await replicate({ REQUEST_TIMEOUT: `${REQUEST_TIMEOUT}ms` });
    const seen = watchRequests();
    await expectNothingUntilHealed(fault, 'timeout');
    const [first, second] = gaps(seen.filter((request) => request.fault !== null));
    for (const gap of [first, second]) {
      // It begins before the upstream sees the request; on a busy machine, long before.
      expect(gap).toBeGreaterThan(REQUEST_TIMEOUT / 2);
      // Without it, the trickle would go on for minutes, the hang for ever.
      expect(gap).toBeLessThan(REQUEST_TIMEOUT + 10_000);
    }
  });

  test('an answer that is too large is asked for again with half the limit', async () => {
    await replicate({ MAX_RESPONSE_BYTES: '4KiB', PAGE_LIMIT: '128', PAGE_LIMIT_MAX: '128' });
    const limits = replica.events.flatMap((event) => (event.type === 'limit' ? [event.limit] : []));
    expect(limits.slice(0, 4)).toEqual([64, 32, 16, 8]);
    expect(failures()).toEqual([]);
  });

  test('a single record may be four times as large, and beyond that the connection is stalled', async () => {
    await replicate({ MAX_RESPONSE_BYTES: '4KiB', PAGE_LIMIT: '4', PAGE_LIMIT_MAX: '4' });
    const connection = [...simulator.world.connections.values()][0]!;
    const [small, large] = [connection.messages[0]!, connection.messages[1]!];
    connection.editMessage(small, 'x'.repeat(12_000));
    await agreed();
    expect(failures()).toEqual([]);
    const limits = replica.events.flatMap((event) => (event.type === 'limit' ? [event.limit] : []));
    expect(limits.at(-1)).toBe(1);
    const before = await written();
    connection.editMessage(large, 'x'.repeat(20_000));
    await waitFor(() => failures().length >= 3, { what: 'failures' });
    expect(new Set(failures().map(({ error }) => error.kind))).toEqual(new Set(['stalled']));
    expect(failures()[0]!.error.hint).toContain('MAX_RESPONSE_BYTES');
    expect(await written()).toEqual(before);
    connection.editMessage(large, 'small again');
    await agreed();
  });

  test.each([
    ['in seconds', { retryAfter: 1, asDate: false }, 1_000, 1_000],
    // Whole seconds, against the clock when it is read.
    ['as a date', { retryAfter: 1.4, asDate: true }, 900, 2_000],
    ['absurd, in seconds', { retryAfter: 10 ** 9, asDate: false }, 2_000, 2_000],
    ['absurd, as a date', { retryAfter: 10 ** 9, asDate: true }, 2_000, 2_000],
  ])('Retry-After %s is a floor, bounded by four times BACKOFF_MAX', async (_, form, least, most) => {
    await replicate({ BACKOFF_MAX: '500ms' });
    const seen = watchRequests();
    simulator.faults.script({ kind: 'unavailable', ...form }, 1, { route: 'sync' });
    simulator.world.applyChanges(30);
    await agreed();
    const { retryIn } = failures()[0]!;
    expect(retryIn).toBeGreaterThanOrEqual(least);
    expect(retryIn).toBeLessThanOrEqual(most);
    expect(Math.max(...gaps(seen))).toBeGreaterThanOrEqual(Math.min(least, retryIn) - 5);
  });

  test('what parks waits for BACKOFF_MAX, or for a longer Retry-After, with the same bound', async () => {
    await replicate({ BACKOFF_MAX: '200ms' });
    const waits = [
      ['0.1', 200],
      ['0.4', 400],
      ['1000000', 800],
    ] as const;
    for (const [after, retryIn] of waits) {
      const refusal: Fault = { kind: 'answer', status: 402, headers: { 'retry-after': after } };
      replica.events.length = 0;
      simulator.faults.script(refusal, 1, { route: 'sync' });
      await waitFor(() => replica.events.some(({ type }) => type === 'recovered'), { what: 'it to go on' });
      expect(failures().map((failure) => failure.retryIn)).toEqual([retryIn]);
    }
  });

  test('a 429 stops the whole key, which comes back with one probe; another key is not delayed', async () => {
    await replicate({ WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two', BACKOFF_MAX: '500ms' }, KEYS);
    simulator.faults.latencyMs = 60;
    const seen = watchRequests();
    const begun = watchBeginnings();
    const limitedAt = await new Promise<number>((resolve) => {
      simulator.faults.script({ kind: 'rate_limited', retryAfter: 1, asDate: false }, 1, { connection: 'a' });
      const before = simulator.stats.onRequest!;
      simulator.stats.onRequest = (entry) => {
        before(entry);
        if (entry.status === 429) resolve(performance.now());
      };
    });
    await waitFor(() => failures().length > 0, { what: 'the 429 to be understood' });
    const understoodAt = performance.now();
    // What had begun by then may go on.
    const later = () => begun.filter(({ connection, at }) => connection !== 'other' && at > understoodAt);
    await waitFor(() => new Set(later().map(({ connection }) => connection)).size === 3, {
      what: 'all three',
    });
    const ofKey = later();
    const [probe, next] = ofKey;
    expect(probe!.at - limitedAt).toBeGreaterThanOrEqual(1_000);
    // The probe is answered before anybody else of the key asks.
    expect(next!.at - probe!.at).toBeGreaterThanOrEqual(55);
    // Every 160 ms, POLL_INTERVAL and the latency, where the machine is not busy.
    const others = seen.filter(
      ({ connection, at }) => connection === 'other' && at > limitedAt && at < probe!.at,
    );
    expect(others.length).toBeGreaterThan(2);
    await agreed();
  });

  test('Retry-After of a 503 is for its connection alone', async () => {
    await replicate({ WHATSAPP_USE_API_KEY: 'pa_live_one,pa_live_two', BACKOFF_MAX: '500ms' }, KEYS);
    const seen = watchRequests();
    simulator.faults.script({ kind: 'unavailable', retryAfter: 1, asDate: false }, 1, { connection: 'a' });
    const refused = () => seen.find(({ fault }) => fault !== null);
    await waitFor(refused, { what: 'the 503' });
    const later = (id: string) =>
      seen.filter(({ connection, at }) => connection === id && at > refused()!.at);
    await waitFor(() => later('a').length > 0, { what: 'the next request' });
    const [next] = later('a');
    expect(next!.at - refused()!.at).toBeGreaterThanOrEqual(1_000);
    for (const id of ['b', 'c', 'other']) {
      expect(later(id).filter(({ at }) => at < next!.at).length).toBeGreaterThan(2);
    }
  });
});
