import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { errorFields, type Logger } from '../logger.ts';

/** What a route answers. */
export interface Reply {
  readonly status: number;
  readonly body?: string;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly answer: (request: IncomingMessage) => Promise<Reply> | Reply;
}

export interface HttpServer {
  readonly port: number;
  /** Stops listening and ends what is open. */
  close(): Promise<void>;
}

/** Limits against clients that are slow, or many; milliseconds. */
const REQUEST_TIMEOUT = 10_000;
const CHECK_EVERY = 2_000;
const MAX_CONNECTIONS = 256;

/**
 * The daemon's own HTTP server.
 * @throws the system's error where it cannot listen, such as EADDRINUSE.
 */
export async function serve(
  routes: readonly Route[],
  { host, port }: { readonly host: string; readonly port: number },
  log: Logger,
): Promise<HttpServer> {
  const server = createServer({ connectionsCheckingInterval: CHECK_EVERY }, (request, response) => {
    void handle(routes, request, response, log);
  });
  server.requestTimeout = REQUEST_TIMEOUT;
  server.headersTimeout = REQUEST_TIMEOUT;
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
  server.on('error', (error) => log.error(errorFields(error), 'HTTP server failed'));
  return { port: (server.address() as AddressInfo).port, close: () => end(server) };
}

async function end(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}

async function handle(
  routes: readonly Route[],
  request: IncomingMessage,
  response: ServerResponse,
  log: Logger,
): Promise<void> {
  let reply: Reply;
  try {
    const path = (request.url ?? '/').split('?')[0];
    const there = routes.filter((route) => route.path === path);
    // What HEAD would have answered has no body; Node leaves it out.
    const method = request.method === 'HEAD' ? 'GET' : request.method;
    const route = there.find((one) => one.method === method);
    if (route !== undefined) reply = await route.answer(request);
    else if (there.length > 0) {
      reply = {
        status: 405,
        body: 'method not allowed\n',
        headers: { allow: there.map((one) => (one.method === 'GET' ? 'GET, HEAD' : one.method)).join(', ') },
      };
    } else reply = { status: 404, body: 'not found\n' };
  } catch (error) {
    // Whoever sent it went away in its midst, or was too slow: nobody is left to answer, and anyone can do so.
    if (error === request.errored) return;
    log.error(errorFields(error), 'HTTP request failed');
    reply = { status: 500, body: 'internal error\n' };
  }
  const { status, body = '', type = 'text/plain; charset=utf-8', headers = {} } = reply;
  // What is left of a body that was not read must not be taken for the next request.
  const rest = request.complete ? {} : { connection: 'close' };
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
    ...rest,
  });
  response.end(body);
}

/** Reads a request's body up to a bound; undefined where it is larger. */
export async function readBody(request: IncomingMessage, most: number): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > most) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}
