import type pg from 'pg';
import { cut, socketOf } from './cancel-request.ts';

/**
 * Cuts a connection on which nothing comes or goes for so many milliseconds. pg's own query_timeout fails the query,
 * and gives the dead connection back to the pool. A server that is there after all may wait for a lock in it: with each
 * attempt one more session would.
 */
export function cutWhenSilent(client: pg.PoolClient, ms: number): void {
  socketOf(client).setTimeout(ms, () => void cut(client, new SilenceError('nothing came from Postgres')));
}

/** A connection that was cut because nothing came. */
class SilenceError extends Error {
  override name = 'SilenceError';
  readonly code = 'ETIMEDOUT';
}
