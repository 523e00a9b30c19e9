import pg from 'pg';
import { type PeerRows, timePeer, upsertOf } from './peers.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** As many as that project sends at once, and as its pool has at most. */
const IN_PARALLEL = 5;
const POOL = 10;

/**
 * Baseline, the way of stripe/sync-engine (`upsertManyWithTimestampProtection`): five single-row upserts at a time
 * through a pool, each a transaction of its own, the next five when all are done; not prepared, and each returns its
 * row, as there. Only the writing is measured.
 */
export function stripe(stage: Stage, peer: PeerRows): Promise<Sample> {
  const { rows } = peer;
  const text = `${upsertOf(peer)} returning *`;
  return timePeer(stage, peer, async (url) => {
    const pool = new pg.Pool({ connectionString: url, max: POOL });
    // pool.end() does not wait for its sessions to be gone, and the database is dropped from under them.
    pool.on('error', () => {});
    await Promise.all(Array.from({ length: IN_PARALLEL }, () => pool.query('select 1')));
    return {
      async write() {
        for (let at = 0; at < rows.length; at += IN_PARALLEL) {
          const some = rows.slice(at, at + IN_PARALLEL);
          await Promise.all(some.map((row) => pool.query(text, [...row])));
        }
      },
      close: () => pool.end(),
    };
  });
}
