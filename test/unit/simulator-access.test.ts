import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test } from 'vitest';
import { signature } from '../../src/simulator/webhooks.ts';
import { get, NOON, small } from './simulator-client.ts';

const start = (options = {}) => small(onTestFinished, options);
const two = (options = {}) => start({ connections: ['conn_a', 'conn_b'], messages: 40, ...options });
const STATUS = '/v1/whatsapp/status';

describe('keys', () => {
  test('401 without a key, with a wrong one, with a revoked one, without the scope', async () => {
    const simulator = await start({ messages: 0 });
    simulator.world.addKey({ key: 'hooks', scopes: ['webhooks:manage'] });
    for (const key of [null, 'wrong', 'hooks']) {
      const { status, text, headers } = await get(simulator, STATUS, undefined, key);
      expect([key, status]).toEqual([key, 401]);
      expect(JSON.parse(text)).toEqual({ error: expect.any(String) });
      expect(headers.get('content-type')).toBe('application/json');
    }
    expect((await get(simulator, '/v1/me', undefined, 'hooks')).status).toBe(200);
    simulator.world.removeKey('hooks');
    expect((await get(simulator, '/v1/me', undefined, 'hooks')).status).toBe(401);
  });

  test('402 where nobody pays', async () => {
    const simulator = await start({ messages: 0 });
    simulator.world.keys.get('pa_live_simulated')!.paid = false;
    expect((await get(simulator, STATUS)).status).toBe(402);
    expect((await get(simulator, '/v1/me')).status).toBe(200);
  });

  test('404 for unknown routes and methods', async () => {
    const simulator = await start({ messages: 0 });
    expect((await get(simulator, '/v1/whatsapp/nothing')).status).toBe(404);
    expect((await get(simulator, '/')).status).toBe(404);
    const answer = await fetch(`${simulator.url}/v1/whatsapp/sync`, {
      method: 'POST',
      headers: { authorization: 'Bearer pa_live_simulated' },
    });
    expect(answer.status).toBe(404);
  });

  test('the Date header tells the world’s time', async () => {
    const simulator = await start({ messages: 0 });
    expect(Date.parse((await get(simulator, STATUS)).headers.get('date')!)).toBe(NOON);
  });
});

describe('the connection header', () => {
  test('is required where the key reaches several', async () => {
    const simulator = await two();
    const statuses = async (key: string) => {
      const ids = [undefined, 'conn_a', 'conn_b', 'conn_x'];
      return Promise.all(ids.map(async (id) => (await get(simulator, STATUS, id, key)).status));
    };
    expect(await statuses('pa_live_simulated')).toEqual([400, 200, 200, 404]);
    simulator.world.addKey({ key: 'b', connections: ['conn_b'] });
    expect(await statuses('b')).toEqual([200, 404, 200, 404]);
    simulator.world.addKey({ key: 'nothing', connections: [] });
    expect(await statuses('nothing')).toEqual([409, 404, 404, 404]);
  });

  test('selects the connection', async () => {
    const simulator = await two();
    for (const id of ['conn_a', 'conn_b']) {
      const { jid } = JSON.parse((await get(simulator, STATUS, id)).text);
      expect(jid).toBe(simulator.world.connection(id).jid);
    }
  });
});

describe('/v1/me', () => {
  test('lists the connections in the shape asked for', async () => {
    const simulator = await two();
    const key = simulator.world.keys.get('pa_live_simulated')!;
    const me = async () => JSON.parse((await get(simulator, '/v1/me')).text);
    expect(await me()).toMatchObject({ connection_ids: ['conn_a', 'conn_b'] });
    key.meShape = 'objects';
    expect(await me()).toMatchObject({ connections: [{ id: 'conn_a' }, { id: 'conn_b' }] });
    key.meShape = 'nested';
    expect(await me()).toMatchObject({
      api_key: { access: { connections: [{ connection_id: 'conn_a' }, { connection_id: 'conn_b' }] } },
    });
    key.meShape = 'none';
    expect(JSON.stringify(await me())).not.toContain('conn_');
    key.meShape = () => '[]';
    expect(await me()).toEqual([]);
  });
});

describe('the state of a connection', () => {
  test('unpaired is 409 on data and told by status; not ready is 503', async () => {
    const simulator = await start();
    const { state } = simulator.world.connection('conn_a');
    expect(JSON.parse((await get(simulator, STATUS)).text)).toMatchObject({ paired: true, connected: true });
    state.paired = false;
    for (const route of ['sync', 'conversations', 'contacts', 'media/x', 'conversations/x/messages']) {
      expect((await get(simulator, `/v1/whatsapp/${route}`)).status).toBe(409);
    }
    const status = await get(simulator, STATUS);
    expect([status.status, JSON.parse(status.text)]).toMatchObject([
      200,
      { paired: false, connected: false },
    ]);
    state.paired = true;
    state.ready = false;
    expect((await get(simulator, '/v1/whatsapp/sync')).status).toBe(503);
  });
});

describe('lists', () => {
  test('conversations and contacts are those of the truth', async () => {
    const simulator = await start();
    const truth = [...simulator.world.truth('conn_a')];
    for (const kind of ['conversation', 'contact']) {
      const { text } = await get(simulator, `/v1/whatsapp/${kind}s`);
      expect(text).toBe(`{"items":[${truth.filter((one) => one.kind === kind).map(({ json }) => json)}]}`);
    }
  });

  test('messages of a conversation page backwards, newest first, to the beginning', async () => {
    const simulator = await start({ messages: 600 });
    simulator.world.applyChanges(300);
    const connection = simulator.world.connection('conn_a');
    const longest = [...connection.conversations].sort((a, b) => b.messages.length - a.messages.length)[0]!;
    const path = `/v1/whatsapp/conversations/${longest.id}/messages?limit=3`;
    const ids: string[] = [];
    for (let more = true; more; ) {
      const before = ids.length > 0 ? `&before_message_id=${ids.at(-1)}` : '';
      const page = JSON.parse((await get(simulator, path + before)).text);
      ids.push(...page.messages.map((message: { message_id: string }) => message.message_id));
      for (const { sender_person_id: sender } of page.messages) {
        if (sender) expect(page.contacts).toContainEqual(expect.objectContaining({ person_id: sender }));
      }
      more = page.has_more;
    }
    expect(ids.length).toBeGreaterThan(10);
    expect(ids).toEqual(longest.messages.map(({ index }) => connection.messageId(index)).reverse());
    expect(ids.map((id) => connection.messageById(id)!.sentAt)).toEqual(
      longest.messages.map(({ sentAt }) => sentAt).sort((a, b) => b - a),
    );
    expect((await get(simulator, `${path}&before_message_id=msg_x`)).status).toBe(404);
    expect((await get(simulator, '/v1/whatsapp/conversations/cnv_x/messages')).status).toBe(404);
  });

  test('media are the bytes that the message describes, or a 404 in plain text', async () => {
    const simulator = await start();
    const connection = simulator.world.connection('conn_a');
    const found = connection.messages.find(
      ({ contentType, media }) => contentType === 'image' && media % 16 === 1,
    );
    const gone = connection.messages.find(
      ({ contentType, media }) => contentType === 'image' && media % 16 === 9,
    );
    const url = `/v1/whatsapp/media/${connection.messageId(found!.index)}`;
    const answer = await get(simulator, url);
    expect(answer.headers.get('content-type')).toBe('image/jpeg');
    const { media } = [...simulator.world.truth('conn_a')].find(
      ({ id }) => id === connection.messageId(found!.index),
    )!.record as { media: { file_size: number } };
    expect(Number(answer.headers.get('content-length'))).toBe(media.file_size);
    for (const id of ['msg_x', connection.messageId(gone!.index)]) {
      const missing = await get(simulator, `/v1/whatsapp/media/${id}`);
      expect([missing.status, missing.headers.get('content-type')]).toEqual([404, 'text/plain']);
    }
  });
});

describe('webhook endpoints', () => {
  test('are created, listed without secret, tested with a signed event, deleted', async () => {
    const simulator = await start({ messages: 0 });
    const received: { body: string; headers: Record<string, unknown> }[] = [];
    const receiver = createServer(async (req, res) => {
      received.push({ body: await text(req), headers: req.headers });
      res.end();
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void receiver.close());
    const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
    const call = async (method: string, path: string, body?: object) => {
      const headers = { authorization: 'Bearer pa_live_simulated' };
      const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
      const answer = await fetch(`${simulator.url}/v1/webhooks/endpoints${path}`, init);
      return { status: answer.status, body: (await answer.json()) as Record<string, Record<string, string>> };
    };
    expect((await call('POST', '', { url })).status).toBe(400);
    const created = await call('POST', '', { url, all_accounts: true, event_types: ['*'] });
    expect(created.status).toBe(201);
    const { id, secret } = created.body.endpoint as { id: string; secret: string };
    const list = await call('GET', '');
    expect(list.body.items).toMatchObject([{ id, url, enabled: true }]);
    expect(JSON.stringify(list.body)).not.toContain(secret);
    expect(await call('POST', `/${id}/test`)).toMatchObject({
      status: 200,
      body: { delivery: { status_code: 200 } },
    });
    expect(await simulator.webhooks.emit('whatsapp.message.sent', 'conn_a', { message_id: 'm' })).toEqual([
      200,
    ]);
    expect(received).toHaveLength(2);
    for (const { body, headers } of received) {
      expect(headers['x-whatsapp-use-signature']).toBe(signature(secret, NOON / 1000, body));
      expect(JSON.parse(body)).toMatchObject({
        connection_id: 'conn_a',
        id: headers['x-whatsapp-use-event-id'],
      });
    }
    expect((await call('DELETE', `/${id}`)).status).toBe(200);
    expect((await call('DELETE', `/${id}`)).status).toBe(404);
  });
});
