import { connect, type Socket } from 'node:net';
import type pg from 'pg';

/** What pg keeps of a connection and does not tell of. */
interface Insides {
  readonly connection: { readonly stream: Socket };
  readonly host: string;
  readonly port: number;
  readonly processID: number | null;
  readonly secretKey: number | null;
}

/** How long the request may take, in milliseconds. */
const CANCEL_TIMEOUT = 5_000;

/** The socket of a client. */
export function socketOf(client: pg.PoolClient): Socket {
  return (client as unknown as Insides).connection.stream;
}

const finishing = new WeakSet<pg.PoolClient>();

/** Does what Postgres shall finish although this process may end meanwhile: {@link cut} leaves it alone. */
export async function toItsEnd<T>(client: pg.PoolClient, work: () => Promise<T>): Promise<T> {
  finishing.add(client);
  try {
    return await work();
  } finally {
    finishing.delete(client);
  }
}

/**
 * Cuts the connection, and has the server give up what it does for it: a server that waits for a lock, or reads much,
 * would not notice that nobody listens, and do what it was asked for after all.
 * @returns when the server has been told, or cannot be.
 */
export async function cut(client: pg.PoolClient, why: Error): Promise<void> {
  const told = finishing.has(client) ? undefined : cancel(client as unknown as Insides);
  socketOf(client).destroy(why);
  await told;
}

/** The protocol's CancelRequest. It holds no secret but for this session, and is read before TLS, as libpq sends it. The
 * server closes the way that it came by when it is done. */
function cancel({ host, port, processID, secretKey }: Insides): Promise<void> {
  if (processID === null) return Promise.resolve();
  const request = Buffer.alloc(16);
  for (const [place, value] of [16, 80_877_102, processID, secretKey ?? 0].entries()) {
    request.writeInt32BE(value, place * 4);
  }
  return new Promise((resolve) => {
    const socket = connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port });
    socket.on('error', () => {});
    socket.on('close', () => resolve());
    socket.setTimeout(CANCEL_TIMEOUT, () => socket.destroy());
    // Nothing comes, and its end is not seen where nobody reads.
    socket.resume();
    socket.end(request);
  });
}
