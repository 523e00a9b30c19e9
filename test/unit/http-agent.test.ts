import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { HttpAgent } from '../../src/lib/http-agent.ts';
import { startHttpProxy } from '../support/http-proxy.ts';

/** @param options of undici's agent. */
function agentOf(options: ConstructorParameters<typeof HttpAgent>[0]): HttpAgent {
  const agent = new HttpAgent(options);
  onTestFinished(() => agent.destroy());
  return agent;
}

test('a proxy that does not answer has as long as connecting has', async () => {
  const proxy = await startHttpProxy({ mute: true });
  onTestFinished(() => proxy.close());
  const agent = agentOf({ httpsProxy: `http://127.0.0.1:${proxy.port}`, noProxy: '', connectTimeout: 500 });
  const { signal } = new AbortController();
  const answer = agent.request({ origin: 'https://api.example', path: '/', method: 'GET', signal });
  await expect(answer).rejects.toMatchObject({ code: 'UND_ERR_HEADERS_TIMEOUT' });
  expect(proxy.asked).toMatchObject([{ to: 'api.example:443' }]);
});

test('who gives up while others have all connections is not kept waiting', async () => {
  const server = createServer(() => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const agent = agentOf({ noProxy: '*', connections: 1, headersTimeout: 0 });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const ask = (signal: AbortSignal) => agent.request({ origin, path: '/', method: 'GET', signal });
  const asked = once(server, 'request');
  const first = ask(new AbortController().signal);
  first.catch(() => {});
  await asked;
  const reason = new Error('enough');
  const ending = new AbortController();
  const second = ask(ending.signal);
  ending.abort(reason);
  await expect(second).rejects.toBe(reason);
});
