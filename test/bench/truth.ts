import type { ReadableStream } from 'node:stream/web';
import { compareWithTruth } from '../../src/demo/compare.ts';
import type { Kind } from '../../src/model.ts';
import { TruthRecord } from '../../src/simulator/truth.ts';
import { openDatabase } from '../../src/store/database.ts';
import { type BenchDatabase, SCHEMA } from './postgres.ts';
import type { Upstream } from './upstream.ts';

/**
 * Whether the tables hold what the upstream does: a path that loses a row is no fast path. Record by record and
 * field by field; the truth of one connection is held in memory for it.
 * @throws with what differs.
 */
export async function expectTruth(upstream: Upstream, database: BenchDatabase): Promise<void> {
  const db = openDatabase({
    url: database.url,
    schema: SCHEMA,
    poolSize: 1,
    applicationName: 'wa-replica bench truth',
    onIdleError: () => {},
  });
  try {
    for (const { id } of upstream.connections) {
      const { different, differences } = await compareWithTruth(db, id, await truthOf(upstream, id));
      if (different > 0)
        throw new Error(`${different} differences from the truth:\n${differences.join('\n')}`);
    }
  } finally {
    await db.destroy();
  }
}

/** Whether there are as many messages as the upstream has: for what runs too often, or is too big, to compare. */
export async function expectCount(upstream: Upstream, database: BenchDatabase): Promise<void> {
  const [row] = await database.query<{ n: number; quarantined: number }>(
    `select (select count(*) from ${SCHEMA}.messages)::integer as n,
      (select count(*) from ${SCHEMA}.quarantine)::integer as quarantined`,
  );
  if (row?.n !== upstream.messages || row.quarantined !== 0) {
    throw new Error(
      `${row?.n} messages and ${row?.quarantined} in quarantine, not ${upstream.messages} and none`,
    );
  }
}

const LINE = /^\{"kind":"(\w+)","id":"([^"]*)","seq":(\d+),"record":/;

async function truthOf(upstream: Upstream, connectionId: string): Promise<TruthRecord[]> {
  const answer = await fetch(`${upstream.url}/__simulator/truth?connection=${connectionId}`);
  const decoder = new TextDecoder();
  const records: TruthRecord[] = [];
  let rest = '';
  for await (const chunk of answer.body as ReadableStream<Uint8Array>) {
    // Not readline, which ends a line at U+2028 too: people's texts have it.
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      const [head, kind, id, seq] = LINE.exec(line) ?? [];
      if (head === undefined) throw new Error('the simulator tells no truth');
      records.push(new TruthRecord(kind as Kind, id!, BigInt(seq!), line.slice(head.length, -1)));
    }
  }
  if (rest !== '') throw new Error('the truth was cut off');
  return records;
}
