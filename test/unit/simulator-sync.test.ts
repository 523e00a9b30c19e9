import { describe, expect, onTestFinished, test } from 'vitest';
import { BEYOND_DOUBLE } from '../../src/simulator/world.ts';
import { Fold, get, NOON, small, syncPage, truthOf } from './simulator-client.ts';

const start = (options = {}) => small(onTestFinished, options);
const DAY = 86_400_000;

describe('paging', () => {
  test('brings everything exactly once, in order of seq, and no page holds more than the limit', async () => {
    const simulator = await start();
    const seen: bigint[] = [];
    const fold = new Fold();
    let contacts = 0;
    for (let more = true; more; ) {
      const page = await syncPage(simulator, fold.cursor, 37);
      expect(page.conversations.length + page.contacts.length + page.messages.length).toBeLessThanOrEqual(37);
      const seqs = [...page.conversations, ...page.messages].map(({ seq }) => seq as bigint);
      for (const seq of seqs) expect(seq > fold.cursor && seq <= page.cursor).toBe(true);
      seen.push(...seqs);
      contacts += page.contacts.length;
      fold.add(page);
      more = page.has_more;
    }
    expect(new Set(seen).size).toBe(seen.length);
    const truth = truthOf(simulator, 'conn_a');
    expect(contacts + seen.length).toBe(truth.size);
    expect(fold.records).toEqual(truth);
    expect(fold.cursor).toBe(simulator.world.connection('conn_a').newest);
  });

  test('int64 is exact on the wire, in seq, cursor, and inside records', async () => {
    const simulator = await start();
    const newest = simulator.world.connection('conn_a').newest;
    expect(newest > BEYOND_DOUBLE).toBe(true);
    const { text } = await get(simulator, '/v1/whatsapp/sync?cursor=0&limit=2000');
    expect(text).toContain(`"cursor":${newest},"has_more":false}`);
    const seqs = [...text.matchAll(/"seq":(\d+)/g)].map((match) => BigInt(match[1]!));
    expect(seqs.some((seq) => BigInt(Number(seq)) !== seq)).toBe(true);
    expect(text).toMatch(/"timestamp_ns":\d{19}[,}]/);
    expect(text).toMatch(/"server_stamp":9007199254\d{6}[,}]/);
    expect(text).toMatch(/"file_size":90071992547\d{5}[,}]/);
    for (const seq of [...seqs].sort((a, b) => (a < b ? -1 : 1)).slice(0, 5)) {
      const page = await syncPage(simulator, seq - 1n, 1);
      expect([...page.messages, ...page.conversations].map((record) => record.seq)).toEqual([seq]);
    }
  });

  test('can start low', async () => {
    const simulator = await start({ startSeq: 1n });
    const page = await syncPage(simulator, 0n, 10);
    expect(page.cursor).toBe(10n);
  });

  test('has the default limit, caps or refuses above the greatest', async () => {
    const simulator = await start({ limitDefault: 7, limitMax: 20 });
    const count = async (query: string) => {
      const page = JSON.parse((await get(simulator, `/v1/whatsapp/sync${query}`)).text);
      return page.contacts.length + page.conversations.length + page.messages.length;
    };
    expect(await count('')).toBe(7);
    expect(await count('?limit=21')).toBe(20);
    const strict = await start({ limitMax: 20, overLimit: 'refuse' });
    expect((await get(strict, '/v1/whatsapp/sync?limit=21')).status).toBe(400);
    expect((await get(strict, '/v1/whatsapp/sync?limit=20')).status).toBe(200);
  });

  test.each([
    'limit=0',
    'limit=-1',
    'limit=x',
    'limit=1.5',
    'limit=',
    'cursor=-1',
    'cursor=x',
    'cursor=1.0',
    'cursor=',
    'cursor=9223372036854775808',
  ])('400 for %s', async (query) => {
    const simulator = await start({ messages: 0 });
    const { status, text } = await get(simulator, `/v1/whatsapp/sync?${query}`);
    expect(status).toBe(400);
    expect(JSON.parse(text)).toEqual({ error: expect.any(String) });
  });

  test('the greatest int64 is a cursor', async () => {
    const simulator = await start();
    const page = await syncPage(simulator, 9_223_372_036_854_775_807n, 1);
    expect(page).toMatchObject({ cursor: 9_223_372_036_854_775_807n, has_more: false, messages: [] });
  });
});

describe('changes', () => {
  test('a change moves the record to the next seq, and it is not served at the old one', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    const message = connection.messages[0]!;
    const id = connection.messageId(0);
    const before = connection.newest;
    connection.editMessage(message, 'edited: 😀');
    expect(connection.newest).toBe(before + 1n);
    const page = await syncPage(simulator, before, 50);
    expect(page.messages).toMatchObject([{ message_id: id, body: 'edited: 😀', seq: before + 1n }]);
    const all = await syncPage(simulator, 0n, 2000);
    expect(all.messages.filter((one) => one.message_id === id)).toHaveLength(1);
  });

  test('the truth is what pages fold to, whatever the changes and limits between them', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const simulator = await start({ seed, messages: 60 * seed });
      const connection = simulator.world.connection('conn_a');
      const fold = new Fold();
      for (let round = 0; round < 25; round++) {
        fold.add(await syncPage(simulator, fold.cursor, 1 + ((seed * 31 + round * 17) % 90)));
        const before = connection.newest;
        const changes = (seed * round) % 60;
        simulator.world.applyChanges(changes);
        expect(connection.newest, `seed ${seed}`).toBe(before + BigInt(changes));
      }
      await fold.catchUp(simulator, 100);
      expect(fold.records, `seed ${seed}`).toEqual(truthOf(simulator, 'conn_a'));
    }
  });

  test('stale entries are swept, and nothing is lost by it', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    for (let i = 0; i < 50_000; i++) connection.touch(connection.messages[i % 40]!);
    expect(connection.log.entries).toBeLessThan(3000);
    const fold = new Fold();
    await fold.catchUp(simulator, 100);
    expect(fold.records).toEqual(truthOf(simulator, 'conn_a'));
  });

  test('pages may be shuffled and hold records twice', async () => {
    const simulator = await start();
    const { sync } = simulator.world.connection('conn_a');
    sync.shuffle = true;
    sync.repeat = 0.2;
    const page = await syncPage(simulator, 0n, 300);
    const seqs = page.messages.map(({ seq }) => seq as bigint);
    expect(new Set(seqs).size).toBeLessThan(seqs.length);
    expect([...seqs].sort((a, b) => (a < b ? -1 : 1))).not.toEqual(seqs);
    const fold = new Fold();
    await fold.catchUp(simulator, 100);
    expect(fold.records).toEqual(truthOf(simulator, 'conn_a'));
  });
});

describe('the 30-day window', () => {
  test('older messages are neither in sync nor in lists, and still in the truth', async () => {
    const simulator = await start({ messages: 0 });
    const connection = simulator.world.connection('conn_a');
    const person = connection.addPerson({ saved: true, phoneKnown: true, lidKnown: false });
    const conversation = connection.addDirect(person);
    const old = connection.addMessage({
      conversation,
      sender: person,
      body: 'old',
      sentAt: NOON - 30 * DAY - 1000,
    });
    const young = connection.addMessage({
      conversation,
      sender: person,
      body: 'young',
      sentAt: NOON - 30 * DAY + 1000,
    });
    const bodies = async () => (await syncPage(simulator, 0n, 50)).messages.map(({ body }) => body);
    const listed = async () =>
      JSON.parse((await get(simulator, `/v1/whatsapp/conversations/${conversation.id}/messages`)).text);
    expect(await bodies()).toEqual(['young']);
    expect((await listed()).messages.map(({ body }: { body: string }) => body)).toEqual(['young']);
    expect([connection.served(old), connection.served(young)]).toEqual([false, true]);
    simulator.world.advance(3000);
    expect(await bodies()).toEqual([]);
    expect(await listed()).toEqual({ messages: [], contacts: [], has_more: false });
    expect([...truthOf(simulator, 'conn_a').values()].filter((one) => 'message_id' in one)).toHaveLength(2);
    expect([...truthOf(simulator, 'conn_a', true).values()].filter((one) => 'message_id' in one)).toEqual([]);
    connection.addMessage({ conversation, body: 'new' });
    expect(await bodies()).toEqual(['new']);
  });

  test('a replica that comes after the window finds the rest, and its cursor goes on', async () => {
    const simulator = await start({ messages: 4000 });
    simulator.world.advance(20 * DAY);
    simulator.world.applyChanges(100);
    const fold = new Fold();
    await fold.catchUp(simulator, 500);
    const served = truthOf(simulator, 'conn_a', true);
    expect(served.size).toBeLessThan(truthOf(simulator, 'conn_a').size);
    expect(fold.records).toEqual(served);
    simulator.world.applyChanges(50);
    await fold.catchUp(simulator, 500);
    expect(fold.cursor).toBe(simulator.world.connection('conn_a').newest);
  });
});

describe('what the documents leave open', () => {
  test('numbering restarts low; a cursor from before is echoed, answered lower, or refused', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    const old = connection.newest;
    connection.restartNumbering(1n);
    expect(connection.newest < 10_000n).toBe(true);
    expect(await syncPage(simulator, old, 10)).toMatchObject({ cursor: old, has_more: false, messages: [] });
    connection.sync.ahead = 'lower';
    expect(await syncPage(simulator, old, 10)).toMatchObject({ cursor: connection.newest, has_more: false });
    for (const status of [400, 409, 410] as const) {
      connection.sync.ahead = status;
      expect((await get(simulator, `/v1/whatsapp/sync?cursor=${old}`)).status).toBe(status);
    }
    const fold = new Fold();
    await fold.catchUp(simulator, 77);
    expect(fold.records).toEqual(truthOf(simulator, 'conn_a'));
  });

  test('a stale answer has a lower cursor, so many times', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    connection.sync.stale = { times: 2, by: 10n };
    const { newest } = connection;
    for (let i = 0; i < 2; i++) {
      const page = await syncPage(simulator, newest, 20);
      expect(page.cursor).toBe(newest - 10n);
      for (const { seq } of page.messages) expect((seq as bigint) <= newest - 10n).toBe(true);
    }
    expect((await syncPage(simulator, newest, 20)).cursor).toBe(newest);
  });

  test('old cursors are refused, 0 is not', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    for (const status of [400, 409, 410] as const) {
      connection.sync.refuse = { cursor: connection.newest - 5n, status };
      expect((await get(simulator, `/v1/whatsapp/sync?cursor=${connection.newest - 6n}`)).status).toBe(
        status,
      );
      expect((await get(simulator, `/v1/whatsapp/sync?cursor=${connection.newest - 5n}`)).status).toBe(200);
      expect((await get(simulator, '/v1/whatsapp/sync?cursor=0')).status).toBe(200);
    }
  });

  test('raw records come verbatim at their seq, bytes too', async () => {
    const simulator = await start({ messages: 20 });
    const connection = simulator.world.connection('conn_a');
    const before = connection.newest;
    connection.injectRaw('message', '{"message_id": 7 ,"seq":"nonsense"}');
    const raw = connection.injectRaw('message', (seq) => `{"message_id":"good","seq":${seq}}`);
    connection.injectRaw('contact', 'null');
    connection.injectRaw('conversation', Buffer.from([0x22, 0xff, 0xfe, 0x22]));
    const answer = await fetch(`${simulator.url}/v1/whatsapp/sync?cursor=${before}`, {
      headers: { authorization: 'Bearer pa_live_simulated' },
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    expect(bytes.toString('latin1')).toBe(
      `{"conversations":["\xff\xfe"],"contacts":[null],"messages":[{"message_id": 7 ,"seq":"nonsense"},{"message_id":"good","seq":${before + 2n}}],"cursor":${before + 4n},"has_more":false}`,
    );
    connection.replaceRaw(raw, '{"message_id":"better"}');
    const { text } = await get(simulator, `/v1/whatsapp/sync?cursor=${before + 4n}`);
    expect(text).toContain('"messages":[{"message_id":"better"}]');
    expect([...simulator.world.truth('conn_a')].some(({ json }) => json.includes('better'))).toBe(false);
    expect([...simulator.world.truth('conn_a', { raw: true })].filter(({ id }) => id === '')).toHaveLength(4);
  });
});
