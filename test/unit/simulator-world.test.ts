import { describe, expect, onTestFinished, test } from 'vitest';
import { createWorld } from '../../src/simulator/server.ts';
import { parseExact } from '../../src/simulator/truth.ts';
import type { World } from '../../src/simulator/world.ts';
import { get, NOON, post, small, truthOf } from './simulator-client.ts';

const start = (options = {}) => small(onTestFinished, options);
const now = () => NOON;
const dump = (world: World) =>
  [...world.connections.keys()].map((id) => [
    id,
    [...world.truth(id)].map(({ json, seq }) => `${seq} ${json}`),
  ]);

describe('a world', () => {
  test('is the same for the same seed and clock, its traffic too', () => {
    const make = (seed: number) => createWorld({ seed, now, messages: 900 });
    for (const seed of [0, 1, 77, 4_294_967_295]) {
      const [one, other] = [make(seed), make(seed)];
      expect(dump(one), `seed ${seed}`).toEqual(dump(other));
      one.applyChanges(500);
      expect(dump(one), `seed ${seed}`).not.toEqual(dump(other));
      other.applyChanges(500);
      expect(dump(one), `seed ${seed}`).toEqual(dump(other));
    }
    expect(dump(make(1))).not.toEqual(dump(make(2)));
  });

  test('takes another course after a reseed', () => {
    const [one, other] = [createWorld({ now, messages: 90 }), createWorld({ now, messages: 90 })];
    other.reseed(5);
    for (const world of [one, other]) world.applyChanges(50);
    expect(dump(one)).not.toEqual(dump(other));
  });

  test('of 20,000 messages is made in well under a second', () => {
    const begin = process.threadCpuUsage();
    const world = createWorld();
    // Microseconds, of our own: a busy machine takes none of them.
    const { user, system } = process.threadCpuUsage(begin);
    expect(user + system).toBeLessThan(1_000_000);
    expect([...world.connections.values()].reduce((sum, { messages }) => sum + messages.length, 0)).toBe(
      20_000,
    );
  });

  test('has ids that are unique and found again', () => {
    const world = createWorld({ now, messages: 5000, connections: ['c'] });
    const connection = world.connection('c');
    const ids = new Set(connection.messages.map(({ index }) => connection.messageId(index)));
    expect(ids.size).toBe(5000);
    for (const message of connection.messages) {
      expect(connection.messageById(connection.messageId(message.index))).toBe(message);
    }
    for (const person of connection.people) expect(connection.personById(person.id)).toBe(person);
    for (const conversation of connection.conversations) {
      expect(connection.conversationById(conversation.id)).toBe(conversation);
    }
    expect(connection.messageById('msg_000000000000')).toBeUndefined();
    const phones = connection.people.map(({ phoneJid }) => phoneJid);
    const lids = connection.people.map(({ lidJid }) => lidJid);
    expect(new Set([...phones, ...lids]).size).toBe(2 * connection.people.length);
    expect(lids.every((lid) => /^1\d{14}@lid$/.test(lid))).toBe(true);
  });

  test('holds what life holds', () => {
    const world = createWorld({ now, messages: 20_000, connections: ['c'] });
    world.applyChanges(5000);
    const all = [...world.truth('c')].map(({ json }) => json).join('\n');
    // biome-ignore format: a list
    const wanted = [
      /"direction":"incoming"/, /"direction":"outgoing"/, /"kind":"group"/, /"kind":"direct"/,
      /"content_type":"(?:image|audio|video|document)"/, /"status":"(?:received|sent|delivered|read)"/,
      /"reply_to_wa_id":"3EB0/, /"reactions":\{"[^"]+@lid":\{"emoji"/, /"edited_at":"2026/, /"deleted_at":"2026/,
      /"0001-01-01T00:00:00Z"/, /"edited_at":null/, /"edited_at":""/, /"sender_person_id"/, /"company":/,
      /"phone_e164":"\+\d+"/, /"lid_jid":"\d+@lid"/, /"role":"(?:admin|superadmin)"/, /"is_archived":true/,
      /"sent_at":"[^"]+\.\d{9}Z"/, /"sent_at":"[^".]+Z"/, /"sent_at":"[^"]+\+05:30"/, /"sent_at":"[^"]+-03:00"/,
      /\p{Script=Arabic}/u, /\p{Script=Hebrew}/u, /\p{Script=Devanagari}/u, /\p{Script=Han}/u, /\p{Script=Thai}/u,
      /\p{Script=Hiragana}/u, /\p{Script=Cyrillic}/u, /\p{Script=Hangul}/u, /ß/, /ñ/, /\u200D/, /"body":"[^"]{4000}/,
    ];
    expect(wanted.filter((pattern) => !pattern.test(all))).toEqual([]);
  });
});

describe('the control API', () => {
  test('streams the truth, int64 exact', async () => {
    const simulator = await start();
    const { text, status } = await get(simulator, '/__simulator/truth?connection=conn_a', undefined, null);
    expect(status).toBe(200);
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => parseExact(line) as { kind: string; id: string; record: object });
    const told = new Map(lines.map(({ kind, id, record }) => [`${kind} ${id}`, record]));
    expect(told).toEqual(truthOf(simulator, 'conn_a'));
  });

  test('grows the world, changes faults, scripts, clock and connection', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    const before = connection.newest;
    const grown = await post(simulator, 'grow', { connection: 'conn_a', changes: 25 });
    expect(connection.newest).toBe(before + 25n);
    expect(grown.text).toContain(`"newest":${before + 25n}`);

    await post(simulator, 'faults', { rates: { internal: 1 }, latency_ms: 1 });
    expect(simulator.faults).toMatchObject({ rates: { internal: 1 }, latencyMs: 1 });
    await post(simulator, 'faults', { clear: true });
    await post(simulator, 'script', { fault: { kind: 'bad_gateway' }, connection: 'conn_a', times: 2 });
    expect(simulator.faults.scripted).toBe(2);
    expect((await get(simulator, '/v1/whatsapp/status')).status).toBe(502);
    await post(simulator, 'faults', { clear: true });

    await post(simulator, 'raw', { connection: 'conn_a', kind: 'message', json: '{"seq":{{seq}}}' });
    const sync = await get(simulator, `/v1/whatsapp/sync?cursor=${before + 25n}`);
    expect(sync.text).toContain(`"messages":[{"seq":${before + 26n}}]`);

    await post(simulator, 'clock', { advance_ms: 5000 });
    expect(simulator.world.now()).toBe(NOON + 5000);
    await post(simulator, 'connection', {
      connection: 'conn_a',
      paired: false,
      restart_at: '7',
      ahead: 'lower',
      refuse: { cursor: '9007199254740993', status: 410 },
      stale: { times: 3, by: 5 },
    });
    expect(connection.state.paired).toBe(false);
    expect(connection.log.seqAt(1)).toBe(7n);
    expect(connection.sync).toMatchObject({
      ahead: 'lower',
      refuse: { cursor: 9_007_199_254_740_993n, status: 410 },
      stale: { times: 3, by: 5n },
    });

    const stats = JSON.parse((await get(simulator, '/__simulator/stats')).text);
    expect(stats.served).toMatchObject({ 'status 502': 1, 'sync 200': 1 });
  });

  test('refuses what it does not understand', async () => {
    const simulator = await start({ messages: 0 });
    const cases: [string, object][] = [
      ['grow', {}],
      ['grow', { changes: 1, connection: 'conn_x' }],
      ['faults', { rates: { nonsense: 1 } }],
      ['script', { fault: { kind: 'nonsense' } }],
      ['raw', { connection: 'conn_a', kind: 'nonsense', json: '1' }],
      ['connection', { connection: 'conn_a', ahead: 'nonsense' }],
      ['connection', { connection: 'conn_a', refuse: { cursor: '5', status: 200 } }],
    ];
    for (const [name, body] of cases)
      expect([name, (await post(simulator, name, body)).status]).toEqual([name, 400]);
    expect((await post(simulator, 'nothing', {})).status).toBe(404);
    expect((await get(simulator, '/__simulator/truth?connection=conn_x')).status).toBe(400);
  });
});

describe('live traffic', () => {
  test('changes the world until stopped', async () => {
    const simulator = await start({ now: Date.now });
    const connection = simulator.world.connection('conn_a');
    const before = connection.newest;
    const traffic = simulator.startTraffic({ changesPerSecond: 2000, seed: 3 });
    await expect.poll(() => connection.newest - before, { timeout: 10_000 }).toBeGreaterThan(100n);
    traffic.stop();
    const after = connection.newest;
    await get(simulator, '/v1/me');
    expect(connection.newest).toBe(after);
  });
});
