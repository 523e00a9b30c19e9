import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type HttpServer, serve } from '../../src/ops/http/server.ts';
import { logLines } from '../support/log-lines.ts';
import { waitFor } from '../support/wait.ts';

/** As many as the server takes at a time. */
const MOST = 256;
const ASK = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';

const { log } = logLines();
let server: HttpServer;
let asked: number;
let sockets: Socket[];
beforeEach(async () => {
  asked = 0;
  sockets = [];
  const answer = () => {
    asked++;
    return new Promise<never>(() => {});
  };
  server = await serve([{ method: 'GET', path: '/', answer }], { host: '127.0.0.1', port: 0 }, log);
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await server.close();
});

/** Connects, and sends a text. @returns what it has got, and whether the server has ended it. */
function open(text = ''): { readonly got: string; readonly ended: boolean; readonly socket: Socket } {
  const socket = connect(server.port, '127.0.0.1');
  sockets.push(socket);
  const client = { got: '', ended: false, socket };
  socket.setEncoding('utf8').on('data', (piece: string) => {
    client.got += piece;
  });
  socket.on('error', () => {});
  socket.on('end', () => {
    client.ended = true;
  });
  socket.write(text);
  return client;
}

test('the end waits for no answer that is under way', async () => {
  open(ASK);
  await waitFor(() => asked === 1, { what: 'the request' });
  let closed = false;
  void server.close().then(() => {
    closed = true;
  });
  await waitFor(() => closed, { what: 'the end', deadlineMs: 20_000 });
});

test('who takes too long to ask is sent away', async () => {
  const slow = [
    open(),
    open('GET / HTTP/1.1\r\n'),
    open('GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nx'),
  ];
  await waitFor(() => slow.every(({ ended }) => ended), { what: 'the end of all', deadlineMs: 30_000 });
  expect(slow.map(({ got }) => got.split('\r\n')[0])).toEqual(Array(3).fill('HTTP/1.1 408 Request Timeout'));
});

test('more than it takes at a time are turned away', async () => {
  for (let n = 0; n < MOST; n++) open(ASK);
  await waitFor(() => asked === MOST, { what: 'the requests' });
  const tooMany = open(ASK);
  await waitFor(() => tooMany.socket.closed, { what: 'its end' });
  expect([tooMany.got, asked]).toEqual(['', MOST]);
});
