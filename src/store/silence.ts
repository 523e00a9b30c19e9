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

/** How long the request to cancel may take, in milliseconds. */
const CANCEL_TIMEOUT = 5_000;

/**
 * Cuts a connection on which nothing comes or goes for so many milliseconds. pg's own query_timeout fails the query,
 * and gives the dead connection back to the pool. A server that is there after all may wait for a lock in it: it is
 * asked to give up, for it would not notice that nobody listens, and with each attempt one more session would wait.
 */
export function cutWhenSilent(client: pg.PoolClient, ms: number): void {
  const insides = client as unknown as Insides;
  const { stream } = insides.connection;
  stream.setTimeout(ms, () => {
    if (insides.processID !== null) cancel(insides);
    stream.destroy(new SilenceError('nothing came from Postgres'));
  });
}

/** The protocol's CancelRequest. It holds no secret but for this session, and is read before TLS, as libpq sends it. */
function cancel({ host, port, processID, secretKey }: Insides): void {
  const request = Buffer.alloc(16);
  for (const [place, value] of [16, 80_877_102, processID ?? 0, secretKey ?? 0].entries()) {
    request.writeInt32BE(value, place * 4);
  }
  const socket = connect(host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port });
  socket.on('error', () => {});
  socket.setTimeout(CANCEL_TIMEOUT, () => socket.destroy());
  socket.end(request);
}

/** A connection that was cut because nothing came. */
class SilenceError extends Error {
  override name = 'SilenceError';
  readonly code = 'ETIMEDOUT';
}
