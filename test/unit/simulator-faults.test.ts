import { connect } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { FAULT_KINDS, type Fault, type FaultKind, Faults } from '../../src/simulator/faults.ts';
import { get, NOON, small } from './simulator-client.ts';

const start = (options = {}) => small(onTestFinished, options);
const SYNC = '/v1/whatsapp/sync?cursor=0&limit=200';

async function struck(fault: Fault) {
  const simulator = await start();
  simulator.faults.script(fault, 1);
  return { simulator, first: get(simulator, SYNC) };
}

describe('each kind', () => {
  test.each([
    ['rate_limited', 429],
    ['internal', 500],
    ['bad_gateway', 502],
    ['unavailable', 503],
  ] as const)('%s answers %i in JSON, once', async (kind, status) => {
    const { simulator, first } = await struck({ kind });
    const answer = await first;
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text)).toEqual({ error: expect.any(String) });
    expect(answer.headers.has('retry-after')).toBe(status === 429);
    expect((await get(simulator, SYNC)).status).toBe(200);
  });

  test('Retry-After comes in seconds, as a date, or not', async () => {
    const header = async (fault: Fault) => (await (await struck(fault)).first).headers.get('retry-after');
    expect(await header({ kind: 'rate_limited', retryAfter: 7, asDate: false })).toBe('7');
    const date = await header({ kind: 'unavailable', retryAfter: 7, asDate: true });
    expect(date).toMatch(/GMT$/);
    expect(Date.parse(date!)).toBe(NOON + 7000);
    expect(await header({ kind: 'rate_limited', retryAfter: null })).toBeNull();
  });

  test('drop ends the connection before any byte', async () => {
    const simulator = await start();
    simulator.faults.script({ kind: 'drop' });
    const bytes = await new Promise<number>((resolve) => {
      let count = 0;
      const socket = connect(simulator.port, '127.0.0.1');
      socket.on('data', (chunk) => {
        count += chunk.length;
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(count));
      socket.write(`GET ${SYNC} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer pa_live_simulated\r\n\r\n`);
    });
    expect(bytes).toBe(0);
    expect(simulator.stats.served['sync drop']).toBe(1);
  });

  test('cut promises more than it sends', async () => {
    const simulator = await start();
    for (let i = 0; i < 10; i++) {
      simulator.faults.script({ kind: 'cut' });
      const answer = await fetch(simulator.url + SYNC, {
        headers: { authorization: 'Bearer pa_live_simulated' },
      });
      expect(answer.status).toBe(200);
      expect(Number(answer.headers.get('content-length'))).toBeGreaterThan(1000);
      await expect(answer.text()).rejects.toThrow();
    }
  });

  test('truncate is complete as HTTP and broken as JSON', async () => {
    const simulator = await start();
    const whole = (await get(simulator, SYNC)).text;
    for (let i = 0; i < 10; i++) {
      simulator.faults.script({ kind: 'truncate' });
      const { status, text } = await get(simulator, SYNC);
      expect(status).toBe(200);
      expect(text.length).toBeLessThan(whole.length);
      expect(() => JSON.parse(text)).toThrow(SyntaxError);
    }
  });

  test('html comes with 200', async () => {
    const answer = await (await struck({ kind: 'html' })).first;
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'text/html']);
    expect(answer.text).toContain('<html>');
  });

  test('slow is late, and latency is on every answer', async () => {
    const simulator = await start({ messages: 0 });
    const took = async () => {
      const begin = performance.now();
      expect((await get(simulator, SYNC)).status).toBe(200);
      return performance.now() - begin;
    };
    simulator.faults.script({ kind: 'slow', delayMs: 60 });
    expect(await took()).toBeGreaterThan(55);
    simulator.faults.latencyMs = 40;
    expect(await took()).toBeGreaterThan(35);
    expect(await took()).toBeGreaterThan(35);
  });

  test('trickle comes whole, in pieces', async () => {
    const simulator = await start({ messages: 0 });
    const whole = await get(simulator, SYNC);
    simulator.faults.script({ kind: 'trickle', bytes: 10, delayMs: 5 });
    const answer = await fetch(simulator.url + SYNC, {
      headers: { authorization: 'Bearer pa_live_simulated' },
    });
    let pieces = 0;
    let text = '';
    for await (const piece of answer.body!) {
      pieces++;
      text += Buffer.from(piece).toString();
    }
    expect(text).toBe(whole.text);
    expect(pieces).toBeGreaterThan(3);
  });

  test('hang never answers; the end of the simulator ends it', async () => {
    const simulator = await start({ messages: 0 });
    simulator.faults.script({ kind: 'hang' });
    const arrived = new Promise<void>((resolve) => {
      simulator.stats.onRequest = () => resolve();
    });
    const hanging = get(simulator, SYNC).then(
      () => 'answered',
      () => 'ended',
    );
    await arrived;
    expect(simulator.stats.inFlight()).toBe(1);
    expect(await Promise.race([hanging, get(simulator, '/v1/me').then(() => 'still hanging')])).toBe(
      'still hanging',
    );
    await simulator.close();
    expect(await hanging).toBe('ended');
  });

  test('an answer of the test’s own, so many times, for one connection and route', async () => {
    const simulator = await start({ connections: ['conn_a', 'conn_b'] });
    const fault: Fault = {
      kind: 'answer',
      status: 302,
      headers: { Location: '/', 'Content-Type': 'x/y' },
      body: 'b',
    };
    simulator.faults.script(fault, 2, { connection: 'conn_b', route: 'sync' });
    const at = async (path: string, id: string) => {
      const headers = { authorization: 'Bearer pa_live_simulated', 'x-whatsapp-use-connection-id': id };
      const answer = await fetch(simulator.url + path, { redirect: 'manual', headers });
      return [answer.status, answer.headers.get('content-type')];
    };
    expect(await at(SYNC, 'conn_a')).toEqual([200, 'application/json']);
    expect(await at('/v1/whatsapp/status', 'conn_b')).toEqual([200, 'application/json']);
    expect(await at(SYNC, 'conn_b')).toEqual([302, 'x/y']);
    expect(await at(SYNC, 'conn_b')).toEqual([302, 'x/y']);
    expect(await at(SYNC, 'conn_b')).toEqual([200, 'application/json']);
    expect(simulator.faults.scripted).toBe(0);
  });
});

describe('by rate', () => {
  const draws = (seed: number, connection: string) => {
    const faults = new Faults(seed);
    faults.setRates(0.3);
    return Array.from({ length: 2000 }, () => faults.next('k', connection, 'sync')?.fault.kind ?? '-');
  };

  test('every kind strikes, about as often as asked', () => {
    const kinds = draws(5, 'conn_a');
    expect(new Set(kinds)).toEqual(new Set([...FAULT_KINDS, '-']));
    const share = kinds.filter((kind) => kind !== '-').length / kinds.length;
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.35);
  });

  test('the same seed strikes alike, whatever other connections do', () => {
    expect(draws(5, 'conn_a')).toEqual(draws(5, 'conn_a'));
    expect(draws(5, 'conn_a')).not.toEqual(draws(6, 'conn_a'));
    expect(draws(5, 'conn_a')).not.toEqual(draws(5, 'conn_b'));
    const faults = new Faults(5);
    faults.setRates(0.3);
    const mixed = Array.from({ length: 2000 }, () => {
      faults.next('k', 'conn_b', 'sync');
      return faults.next('k', 'conn_a', 'sync')?.fault.kind ?? '-';
    });
    expect(mixed).toEqual(draws(5, 'conn_a'));
  });

  test('rates change while it runs', async () => {
    const simulator = await start({ messages: 0, faults: { internal: 1 } });
    expect((await get(simulator, SYNC)).status).toBe(500);
    simulator.faults.setRates({ bad_gateway: 1 });
    expect((await get(simulator, SYNC)).status).toBe(502);
    simulator.faults.clear();
    expect((await get(simulator, SYNC)).status).toBe(200);
    expect(() => simulator.faults.setRates({ nonsense: 1 } as Partial<Record<FaultKind, number>>)).toThrow(
      'nonsense',
    );
  });

  test('a real limit per key', async () => {
    const simulator = await start({ messages: 0 });
    simulator.faults.perSecond = 3;
    const statuses = await Promise.all(
      Array.from({ length: 10 }, async () => (await get(simulator, SYNC)).status),
    );
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(3);
    expect(statuses).toContain(429);
  });
});
