import pg from 'pg';
import { type PeerRows, timePeer, upsertOf } from './peers.ts';
import type { Sample } from './result.ts';
import type { Stage } from './stage.ts';

/** Rows of a page, which is a transaction. */
const PAGE = 1_000;

/**
 * Baseline, the naive way: page after page a transaction, in it row after row an upsert, prepared once. Only the
 * writing is measured: the rows are in memory, nothing is fetched, parsed or checked.
 */
export function naive(stage: Stage, peer: PeerRows): Promise<Sample> {
  const { rows } = peer;
  const text = upsertOf(peer);
  return timePeer(stage, peer, async (url) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    return {
      async write() {
        for (let at = 0; at < rows.length; at += PAGE) {
          await client.query('begin');
          for (const row of rows.slice(at, at + PAGE)) {
            await client.query({ name: 'upsert', text, values: [...row] });
          }
          await client.query('commit');
        }
      },
      close: () => client.end(),
    };
  });
}
