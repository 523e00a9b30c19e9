import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { waitFor } from '../support/wait.ts';

/** A client that remembers what it was told and how it ended. */
function client(port: number) {
  const socket = connect(port, '127.0.0.1');
  const seen = { text: '', end: '' };
  socket.on('data', (chunk: Buffer) => {
    seen.text += chunk;
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    seen.end = error.code ?? '?';
  });
  socket.on('end', () => {
    seen.end ||= 'end';
  });
  sockets.push(socket);
  return {
    socket,
    seen,
    told: (text: string) => waitFor(() => seen.text === text, { what: `the echo "${text}"` }),
  };
}

const sockets: Socket[] = [];
const echo = createServer((socket) => {
  sockets.push(socket);
  socket.on('error', () => {});
  socket.pipe(socket);
});
let proxy: TcpProxy;

beforeEach(async () => {
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  proxy = await startTcpProxy({ host: '127.0.0.1', port: (echo.address() as AddressInfo).port });
});
afterEach(async () => {
  await proxy.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  await new Promise((closed) => echo.close(closed));
});

describe('the TCP proxy', () => {
  test('forwards both ways, the end too', async () => {
    const { socket, seen, told } = client(proxy.port);
    socket.write('hello');
    await told('hello');
    socket.end(' and bye');
    await told('hello and bye');
    await waitFor(() => seen.end === 'end', { what: 'the end' });
    await waitFor(() => proxy.open === 0, { what: 'the connection to be gone' });
    expect(proxy.accepted).toBe(1);
  });

  test('cuts what is open, not what comes later', async () => {
    const first = client(proxy.port);
    first.socket.write('a');
    await first.told('a');
    proxy.cut();
    await waitFor(() => first.seen.end === 'ECONNRESET', { what: 'the reset' });
    const second = client(proxy.port);
    second.socket.write('b');
    await second.told('b');
  });

  test('refuses new connections until healed, on the same port', async () => {
    const old = client(proxy.port);
    old.socket.write('a');
    await old.told('a');
    await proxy.refuse();
    const refused = client(proxy.port);
    await waitFor(() => refused.seen.end === 'ECONNREFUSED', { what: 'the refusal' });
    old.socket.write('b');
    await old.told('ab');
    await proxy.heal();
    const { socket, told } = client(proxy.port);
    socket.write('c');
    await told('c');
  });

  test('swallows: old and new connections stay open and silent, also after healing', async () => {
    const old = client(proxy.port);
    old.socket.write('a');
    await old.told('a');
    proxy.blackhole();
    old.socket.write('b');
    const fresh = client(proxy.port);
    await waitFor(() => proxy.accepted === 2, { what: 'the connection to be accepted' });
    fresh.socket.write('c');
    await proxy.heal();
    const later = client(proxy.port);
    later.socket.write('d');
    await later.told('d');
    expect([old.seen, fresh.seen]).toEqual([
      { text: 'a', end: '' },
      { text: '', end: '' },
    ]);
  });

  test('delays, and keeps the order when the delay ends', async () => {
    proxy.delay(60);
    const { socket, told } = client(proxy.port);
    const started = performance.now();
    socket.write('a');
    await told('a');
    // Once on the way there, once on the way back.
    expect(performance.now() - started).toBeGreaterThanOrEqual(115);
    socket.write('b');
    proxy.delay(0);
    socket.write('c');
    await told('abc');
  });
});

describe('waitFor', () => {
  test('names what it waited for, with the last error as the cause', async () => {
    const cause = new Error('not yet');
    const waiting = waitFor(() => Promise.reject(cause), { what: 'godot', deadlineMs: 30 });
    await expect(waiting).rejects.toThrow(
      expect.objectContaining({ message: expect.stringContaining('godot'), cause }),
    );
  });

  test('returns what the condition gave', async () => {
    let asked = 0;
    expect(await waitFor(() => ++asked > 2 && 'done', { what: 'three', everyMs: 1 })).toBe('done');
  });
});
