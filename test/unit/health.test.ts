import type { IncomingMessage } from 'node:http';
import { describe, expect, test } from 'vitest';
import { singleFlight } from '../../src/lib/single-flight.ts';
import { type HealthOptions, overdue, readiness, summary } from '../../src/ops/health.ts';
import { type RouteOptions, routes } from '../../src/ops/http/routes.ts';
import type { WindowAlarms } from '../../src/ops/window-watch.ts';
import type { LoopHealth } from '../../src/sync/standing.ts';

const MINUTE = 60_000;

/** A loop that polled a moment ago and rests. */
function loop(changes: Partial<LoopHealth> = {}): LoopHealth {
  const now = performance.now();
  const resting = { connectionId: 'conn', dueAt: now + 15_000, polledAt: now, interval: 15_000 };
  return { ...resting, failure: undefined, ...changes };
}

function health(loops: readonly LoopHealth[], changes: Partial<HealthOptions> = {}): HealthOptions {
  return {
    loops: () => loops,
    overdueAfter: 90_000,
    maxLag: 5 * MINUTE,
    begun: () => true,
    alarms: () => ({ window: [], gaps: 0 }),
    keysFailing: () => 0,
    migrated: async () => true,
    ...changes,
  };
}

const ago = (ms: number) => performance.now() - ms;
const parked = { kind: 'unauthorized', message: 'GET /v1/whatsapp/sync: HTTP 401', parked: true };
const failing = { kind: 'network', message: 'GET /v1/whatsapp/sync: ECONNREFUSED', parked: false };

describe('a loop is overdue', () => {
  test.each<[what: string, hung: boolean, LoopHealth]>([
    ['at rest', false, loop()],
    ['due a minute ago: a request and a page may take that long', false, loop({ dueAt: ago(MINUTE) })],
    ['due two minutes ago', true, loop({ dueAt: ago(2 * MINUTE) })],
    [
      'not polled for a day, but due in an hour',
      false,
      loop({ polledAt: ago(1440 * MINUTE), dueAt: ago(-60 * MINUTE) }),
    ],
    [
      'never polled, due in four hours after a Retry-After',
      false,
      loop({ polledAt: undefined, dueAt: ago(-240 * MINUTE) }),
    ],
    ['failing for long, due soon', false, loop({ polledAt: undefined, failure: failing, dueAt: ago(-1) })],
    ['waiting for room', false, loop({ dueAt: Number.POSITIVE_INFINITY })],
    ['parked, and hung', true, loop({ failure: parked, dueAt: ago(2 * MINUTE) })],
  ])('%s: %s', async (_, hung, one) => {
    const options = health([loop(), one]);
    expect(overdue(options)).toEqual(hung ? [one] : []);
    // What an orchestrator sees: the process is started again only where a loop is hung.
    const route = routes({ health: options, token: 'x' } as unknown as RouteOptions).find(
      (it) => it.path === '/healthz',
    );
    const answer = await route?.answer({} as IncomingMessage);
    expect(answer?.status).toBe(hung ? 503 : 200);
    expect(JSON.parse(answer?.body ?? '')).toEqual(hung ? { status: 'hung', loops: 1 } : { status: 'live' });
  });
});

describe('ready', () => {
  const stateOf = async (loops: readonly LoopHealth[], changes?: Partial<HealthOptions>) => {
    const { status, reason, connections } = await readiness(health(loops, changes));
    return { status, ...(reason === undefined ? {} : { reason }), ...connections };
  };

  test('while all are current', async () => {
    expect(await stateOf([loop(), loop()])).toEqual({ status: 'ready', held: 2, current: 2, parked: 0 });
  });

  test('on standby, once it has looked for leases', async () => {
    const none = { held: 0, current: 0, parked: 0 };
    expect(await stateOf([])).toEqual({ status: 'ready', ...none });
    const reason = 'the connections are not known yet';
    expect(await stateOf([], { begun: () => false })).toEqual({ status: 'unready', reason, ...none });
  });

  test('is not who never polled', async () => {
    const reason = 'no connection is current';
    const never = loop({ polledAt: undefined });
    expect(await stateOf([never])).toEqual({ status: 'unready', reason, held: 1, current: 0, parked: 0 });
  });

  test('a poll counts for three intervals, or for READY_MAX_LAG where that is longer', async () => {
    const seven = { polledAt: ago(7 * MINUTE) };
    expect(await stateOf([loop(seven)])).toMatchObject({ status: 'unready' });
    expect(await stateOf([loop(seven)], { maxLag: 8 * MINUTE })).toMatchObject({ status: 'ready' });
    expect(await stateOf([loop({ ...seven, interval: 3 * MINUTE })])).toMatchObject({ status: 'ready' });
    expect(await stateOf([loop({ ...seven, interval: 2 * MINUTE })])).toMatchObject({ status: 'unready' });
  });

  test('one that fails is current until its last poll is too old; one that is parked is not', async () => {
    expect(await stateOf([loop({ failure: failing })])).toMatchObject({ status: 'ready' });
    expect(await stateOf([loop({ failure: parked })])).toMatchObject({ status: 'unready', parked: 1 });
    expect(await stateOf([loop(), loop({ failure: parked })])).toMatchObject({
      status: 'degraded',
      parked: 1,
    });
  });

  test('not without the schema or the database, whatever the loops say', async () => {
    const current = [loop()];
    const schema = { migrated: async () => false };
    expect(await stateOf(current, schema)).toMatchObject({
      status: 'unready',
      reason: "the schema is not this version's",
    });
    const failing = (code: string) => ({
      migrated: () => Promise.reject(Object.assign(new Error('no'), { code })),
    });
    for (const [code, reason] of [
      ['57P03', 'the database is out of reach'],
      ['42501', 'the role of DATABASE_URL lacks a privilege, see `wa-replica doctor`'],
      ['42P01', "the schema is not this version's"],
      ['42703', "the schema is not this version's"],
      ['3F000', "the schema is not this version's"],
    ] as const)
      expect(await stateOf(current, failing(code))).toMatchObject({ status: 'unready', reason });
    const silent = { migrated: () => new Promise<boolean>(() => {}) };
    expect(await stateOf(current, silent)).toMatchObject({
      status: 'unready',
      reason: 'the database does not answer',
    });
  });

  test('is degraded by what is about to be lost, and by what was', async () => {
    const alarm = { connection_id: 'conn', step: 'warn' } as WindowAlarms['window'][number];
    const withAlarms = (alarms: WindowAlarms) => stateOf([loop()], { alarms: () => alarms });
    expect(await withAlarms({ window: [alarm], gaps: 0 })).toMatchObject({ status: 'degraded', current: 1 });
    expect(await withAlarms({ window: [], gaps: 1 })).toMatchObject({ status: 'degraded', current: 1 });
  });

  test('is degraded by a key whose connections are not known', async () => {
    const state = await readiness(health([loop()], { keysFailing: () => 1 }));
    expect(state).toMatchObject({ status: 'degraded', keys_failing: 1 });
  });

  test('says of those behind since when, why and what to do', async () => {
    const { behind } = await readiness(health([loop(), loop({ failure: parked, polledAt: ago(61_000) })]));
    expect(behind).toEqual([
      {
        connection_id: 'conn',
        seconds_since_poll: 61,
        parked: true,
        kind: 'unauthorized',
        error: 'GET /v1/whatsapp/sync: HTTP 401',
        what_to_do: 'check WHATSAPP_USE_API_KEY and its scope whatsapp:read',
      },
    ]);
    const full = { kind: 'database', message: 'writing a page: 53100', parked: false };
    const told = await readiness(health([loop({ failure: full, polledAt: undefined })]));
    expect(told.behind).toMatchObject([{ what_to_do: 'the disk of Postgres is full' }]);
    const never = await readiness(health([loop({ polledAt: undefined })]));
    expect(never.behind).toMatchObject([{ seconds_since_poll: null, kind: null, what_to_do: null }]);
  });
});

test('the line for systemctl status', () => {
  expect(summary(health([]))).toBe('0 connections, 0 replicating');
  expect(summary(health([loop(), loop({ failure: parked }), loop({ failure: failing }), loop()]))).toBe(
    '4 connections, 2 replicating, 1 retrying, 1 parked',
  );
});

describe('single flight', () => {
  test('those who ask meanwhile share one answer, and a failure; the next is asked anew', async () => {
    const asked: PromiseWithResolvers<number>[] = [];
    const ask = singleFlight(() => {
      const one = Promise.withResolvers<number>();
      asked.push(one);
      return one.promise;
    });
    const both = Promise.all([ask(), ask()]);
    asked[0]?.resolve(1);
    expect(await both).toEqual([1, 1]);
    const failed = Promise.allSettled([ask(), ask()]);
    asked[1]?.reject(new Error('no'));
    expect((await failed).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    const again = ask();
    asked[2]?.resolve(3);
    expect(await again).toBe(3);
    expect(asked).toHaveLength(3);
  });
});
